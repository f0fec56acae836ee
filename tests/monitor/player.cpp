// Plays the scripts of log_script.py: an app that logs given frames with the C++ monitor. With a second argument, the
// path of a log, plays the app of tflite_app.h.
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "exray_monitor.h"
#include "tflite_app.h"

namespace {

class Script {
 public:
  explicit Script(const char* path) : file_(path, std::ios::binary), data_(std::istreambuf_iterator<char>(file_), {}) {}

  template <class T>
  T number() {
    const T value = exray::detail::load<T>(data_.data() + position_, 0);
    position_ += sizeof(T);
    return value;
  }

  template <class T>
  std::vector<T> numbers() {
    std::vector<T> values(number<std::uint32_t>());
    for (T& value : values) value = number<T>();
    return values;
  }

  std::string_view text() {
    const auto size = number<std::uint32_t>();
    position_ += size;
    return std::string_view(data_.data() + position_ - size, size);
  }

  template <class Function>
  auto list(Function&& element) {
    std::vector<decltype(element())> values(number<std::uint32_t>());
    for (auto& value : values) value = element();
    return values;
  }

 private:
  std::ifstream file_;
  std::vector<char> data_;
  std::size_t position_ = 0;
};

template <class T>
using Named = std::vector<std::pair<std::string, T>>;

struct FrameScript {
  std::string id;
  bool keep, fails;
  exray::NamedTensors raw, inputs, outputs, layers;
  std::vector<int> layer_indices;
  Named<std::vector<std::int64_t>> ints, ops;
  Named<std::vector<float>> floats;
  Named<std::vector<std::string>> texts;
};

exray::NamedTensor read_tensor(Script& script) {
  exray::NamedTensor named;
  named.name = script.text();
  const std::string_view dtype = script.text();
  int number = 0;
  while (dtype != exray::detail::kDTypes[number].name) ++number;
  const auto shape = script.numbers<std::int64_t>();
  const auto scale = script.numbers<float>();
  const auto zero_point = script.numbers<std::int64_t>();
  const auto axis = script.number<std::int32_t>();
  if (static_cast<exray::DType>(number) == exray::DType::string) {
    named.tensor = exray::tensor(script.list([&] { return script.text(); }), shape);
  } else {
    const std::string_view bytes = script.text();
    named.tensor = exray::tensor(static_cast<exray::DType>(number), bytes.data(), bytes.size(), shape);
  }
  if (!scale.empty()) named.tensor = named.tensor.quantized(scale, zero_point, axis);
  return named;
}

FrameScript read_frame(Script& script) {
  FrameScript frame;
  const auto tensor = [&] { return read_tensor(script); };
  frame.id = script.text();
  frame.keep = script.number<char>();
  frame.fails = script.number<char>();
  frame.raw = script.list(tensor);
  frame.inputs = script.list(tensor);
  frame.outputs = script.list(tensor);
  frame.layers = script.list(tensor);
  frame.layer_indices = script.numbers<int>();
  const auto key = [&] { return std::string(script.text()); };
  for (auto n = script.number<std::uint32_t>(); n > 0; --n) {
    std::string name = key();
    frame.ints.emplace_back(name, script.numbers<std::int64_t>());
  }
  for (auto n = script.number<std::uint32_t>(); n > 0; --n) {
    std::string name = key();
    frame.floats.emplace_back(name, script.numbers<float>());
  }
  for (auto n = script.number<std::uint32_t>(); n > 0; --n) {
    std::string name = key();
    frame.texts.emplace_back(name, script.list(key));
  }
  for (auto n = script.number<std::uint32_t>(); n > 0; --n) {
    std::string name = key();
    frame.ops.emplace_back(name, script.numbers<std::int64_t>());
  }
  return frame;
}

template <class T>
void log_user(exray::Frame& frame, const Named<std::vector<T>>& values) {
  for (const auto& [key, list] : values) {
    if (list.size() == 1) {
      frame.user(key, list[0]);
    } else {
      frame.user(key, list);
    }
  }
}

void play(exray::Monitor& monitor, const FrameScript& script, const std::string& prefix) {
  try {
    exray::Frame frame = monitor.frame(script.id.empty() ? "" : prefix + script.id);
    if (script.keep) frame.keep();
    for (const auto& [name, tensor] : script.raw) frame.raw(tensor, name);
    frame.stage("preprocess", [] {});
    frame.inputs(script.inputs);
    const int answer = frame.stage("inference", [] { return 42; });
    frame.outputs(script.outputs);
    for (std::size_t i = 0; i < script.layers.size(); ++i) {
      frame.layer(script.layer_indices[i], script.layers[i].name, script.layers[i].tensor);
    }
    for (const auto& [name, numbers] : script.ops) frame.op(static_cast<int>(numbers[0]), name, numbers[1]);
    log_user(frame, script.ints);
    log_user(frame, script.floats);
    log_user(frame, script.texts);
    for (int i = 0; i < 2; ++i) frame.stage("postprocess", [&] { return answer; });
    if (script.fails) frame.stage("broken", []() -> int { throw std::runtime_error("the screen is off"); });
  } catch (const std::runtime_error&) {
  }
}

exray::Options read_options(std::map<std::string, std::string>& given) {
  exray::Options options;
  const std::map<std::string, exray::Level> levels = {{"off", exray::Level::off},
                                                      {"outputs", exray::Level::outputs},
                                                      {"inputs", exray::Level::inputs},
                                                      {"layers", exray::Level::layers}};
  const std::map<std::string, exray::Raw> raws = {
      {"", exray::Raw::by_level}, {"none", exray::Raw::none}, {"hash", exray::Raw::hash}, {"value", exray::Raw::value}};
  options.path = given["path"];
  options.level = levels.at(given["level"]);
  options.raw = raws.at(given["raw"]);
  options.policy = given["policy"] == "drop" ? exray::Policy::drop : exray::Policy::block;
  if (given.count("rate")) options.sampling.rate = std::stod(given["rate"]);
  if (given.count("seed")) options.sampling.seed = std::stoull(given["seed"]);
  if (given.count("every")) options.sampling.every = std::stoull(given["every"]);
  if (given.count("low_confidence")) options.sampling.low_confidence = std::stod(given["low_confidence"]);
  options.sampling.label_change = given.count("label_change") > 0;
  if (given.count("predicate")) {
    options.sampling.predicate = [limit = std::stod(given["predicate"])](const exray::NamedTensors& outputs) {
      if (outputs[0].tensor.real(1) == 0) throw std::runtime_error("no opinion");
      return outputs[0].tensor.real(0) > limit;
    };
  }
  if (given.count("max_bytes")) options.max_bytes = std::stoull(given["max_bytes"]);
  if (given.count("file_bytes")) options.file_bytes = std::stoull(given["file_bytes"]);
  if (given.count("queue_bytes")) options.queue_bytes = std::stoull(given["queue_bytes"]);
  options.model_sha256 = given["model_sha256"];
  options.input_contract = given["input_contract"];
  options.app_name = given["app_name"];
  options.app_version = given["app_version"];
  options.kernels = given["kernels"];
  if (given.count("threads")) options.threads = std::stoi(given["threads"]);
  if (given.count("user")) options.user = {{"session", given["user"]}};
  options.on_problem = [](const char*, const char*) {};
  return options;
}

}  // namespace

int main(int count, char** arguments) {
  if (count > 2) {
    tflite_app::play(arguments[2]);
    return 0;
  }
  Script script(arguments[1]);
  for (auto logs = script.number<std::uint32_t>(); logs > 0; --logs) {
    std::map<std::string, std::string> given;
    for (auto n = script.number<std::uint32_t>(); n > 0; --n) {
      const std::string key(script.text());
      given[key] = script.text();
    }
    const auto frames = script.list([&] { return read_frame(script); });
    exray::Monitor monitor(read_options(given));
    std::vector<std::thread> threads;
    for (int i = 0; i < std::stoi(given["app_threads"]); ++i) {
      threads.emplace_back([&, i] {
        do {
          for (const FrameScript& frame : frames) {
            play(monitor, frame, std::to_string(i) + "/");
            if (given.count("forever")) {
              std::printf("%llu\n", static_cast<unsigned long long>(monitor.counts().written));
              std::fflush(stdout);
            }
          }
        } while (given.count("forever"));
      });
    }
    for (std::thread& thread : threads) thread.join();
    exray::Frame open = monitor.frame("open");
    open.keep();
    if (!given.count("open")) open.end();
    monitor.close();
    monitor.close();
    play(monitor, frames[0], "late/");
  }
}
