// Runs a TensorFlow Lite (LiteRT) interpreter and logs what its frame's level asks for, in one line:
//
//   exray::Frame frame = monitor.frame();
//   exray::run(frame, *interpreter);           // std::unique_ptr<tflite::Interpreter> interpreter
//
// Layers are there only if the runtime keeps them; build the interpreter so, or all but the outputs is garbage:
//
//   tflite::InterpreterOptions options;
//   options.SetPreserveAllTensors(true);
//   tflite::InterpreterBuilder(*model, resolver, &options)(&interpreter);
//   exray::run(frame, *interpreter, {true});
//
// With the C API, hand over the tensors yourself; they are the same TfLiteTensor:
//
//   frame.inputs({{"image", exray::tensor(*TfLiteInterpreterGetInputTensor(interpreter, 0))}});
//   frame.stage("inference", [&] { return TfLiteInterpreterInvoke(interpreter); });
//   frame.outputs({{"scores", exray::tensor(*TfLiteInterpreterGetOutputTensor(interpreter, 0))}});
//
// No header of TensorFlow Lite is included: whatever has the members of tflite::Interpreter and TfLiteTensor will do.
#ifndef EXRAY_TFLITE_H_
#define EXRAY_TFLITE_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "exray_monitor.h"

namespace exray {

struct RunOptions {
  bool preserves_all_tensors = false;  // the interpreter was built with SetPreserveAllTensors(true)
  std::string signature;               // whose names inputs and outputs have; empty: that of the first one, if any
};

namespace detail {

// TfLiteAffineQuantization and TfLiteFloatArray, parts of TensorFlow Lite's stable C ABI: behind a void pointer, where
// no duck typing sees them.
struct AffineQuantization {
  const void* scale;
  const void* zero_point;
  std::int32_t quantized_dimension;
};

template <class T>
std::vector<T> tflite_array(const void* array) {
  const auto size = load<std::int32_t>(array, 0);
  std::vector<T> values(static_cast<std::size_t>(size));
  const auto* first = static_cast<const char*>(array) + sizeof(std::int32_t);
  if (size > 0) std::memcpy(values.data(), first, values.size() * sizeof(T));
  return values;
}

// Elements of a string tensor: their number, where each begins and the last ends, int32, then the characters.
inline std::vector<std::string_view> tflite_strings(const char* data, std::size_t bytes) {
  std::vector<std::string_view> strings;
  const std::int32_t count = bytes < 4 ? 0 : load<std::int32_t>(data, 0);
  for (std::int32_t i = 0; i < count; ++i) {
    const auto index = static_cast<std::size_t>(i);
    const auto begin = load<std::int32_t>(data, index + 1), end = load<std::int32_t>(data, index + 2);
    strings.emplace_back(data + begin, static_cast<std::size_t>(end - begin));
  }
  return strings;
}

// By the numbers of TfLiteType; false of types that a log does not know.
inline bool tflite_dtype(int type, DType* dtype) {
  switch (type) {
    case 1: *dtype = DType::float32; return true;
    case 2: *dtype = DType::int32; return true;
    case 3: *dtype = DType::uint8; return true;
    case 4: *dtype = DType::int64; return true;
    case 5: *dtype = DType::string; return true;
    case 6: *dtype = DType::boolean; return true;
    case 7: *dtype = DType::int16; return true;
    case 8: *dtype = DType::complex64; return true;
    case 9: *dtype = DType::int8; return true;
    case 10: *dtype = DType::float16; return true;
    case 11: *dtype = DType::float64; return true;
    case 12: *dtype = DType::complex128; return true;
    case 13: *dtype = DType::uint64; return true;
    case 16: *dtype = DType::uint32; return true;
    case 17: *dtype = DType::uint16; return true;
    case 19: *dtype = DType::bfloat16; return true;
    default: return false;
  }
}

constexpr int kAffine = 1;  // of TfLiteQuantizationType

}  // namespace detail

// A TfLiteTensor; of a type that a log does not know it is not valid, and costs the frame.
template <class TfLiteTensor>
auto tensor(const TfLiteTensor& source) -> decltype(source.dims->size, source.quantization.params, Tensor()) {
  Tensor result;
  if (!detail::tflite_dtype(static_cast<int>(source.type), &result.dtype)) {
    result.bytes = 1;
    return result;
  }
  result.shape.assign(source.dims->data, source.dims->data + source.dims->size);
  if (result.dtype == DType::string) {
    result.strings = detail::tflite_strings(source.data.raw, source.bytes);
  } else {
    result.data = source.data.raw;
    result.bytes = source.bytes;
  }
  if (static_cast<int>(source.quantization.type) == detail::kAffine && source.quantization.params != nullptr) {
    const auto affine = detail::load<detail::AffineQuantization>(source.quantization.params, 0);
    result.scale = detail::tflite_array<float>(affine.scale);
    const auto zero_points = detail::tflite_array<std::int32_t>(affine.zero_point);
    result.zero_point.assign(zero_points.begin(), zero_points.end());
    // Per-channel models may store a single zero point for all channels.
    if (zero_points.size() == 1) result.zero_point.assign(result.scale.size(), zero_points[0]);
    result.axis = affine.quantized_dimension;
  }
  return result;
}

// Runs a tflite::Interpreter whose inputs are set, as the stage `inference`, and logs inputs, outputs and layers.
// Returns what Invoke() returns.
template <class Interpreter>
auto run(Frame& frame, Interpreter& interpreter, const RunOptions& options = {}) {
  if (frame.ran()) {
    frame.outputs({});  // counts it
    return interpreter.Invoke();
  }
  std::map<int, std::string> input_names, output_names;
  if (frame.wants(Level::outputs)) {
    std::string signature = options.signature;
    if (signature.empty() && !interpreter.signature_keys().empty()) signature = *interpreter.signature_keys().front();
    for (const auto& [name, index] : interpreter.signature_inputs(signature.c_str())) {
      input_names[static_cast<int>(index)] = name;
    }
    for (const auto& [name, index] : interpreter.signature_outputs(signature.c_str())) {
      output_names[static_cast<int>(index)] = name;
    }
  }
  const auto named = [&](int index, const std::map<int, std::string>& names) {
    const auto found = names.find(index);
    const auto* source = interpreter.tensor(index);
    return NamedTensor{found != names.end() ? found->second : source->name ? source->name : "", tensor(*source)};
  };
  if (frame.wants(Level::inputs)) {
    NamedTensors inputs;
    for (int index : interpreter.inputs()) inputs.push_back(named(index, input_names));
    frame.inputs(inputs);
  }
  const auto status = frame.stage("inference", [&] { return interpreter.Invoke(); });
  if (static_cast<int>(status) != 0) {
    frame.error("TfLiteStatus", std::to_string(static_cast<int>(status)));
    return status;
  }
  NamedTensors outputs;
  if (frame.wants(Level::outputs)) {
    for (int index : interpreter.outputs()) outputs.push_back(named(index, output_names));
  }
  frame.outputs(outputs, "tensorflow_lite_cpp");
  if (!frame.wants(Level::layers)) return status;
  if (!options.preserves_all_tensors) {
    frame.problem("layers", "the runtime does not keep layers: build it with SetPreserveAllTensors(true)");
    return status;
  }
  std::unordered_set<int> done(interpreter.inputs().begin(), interpreter.inputs().end());
  // A node's outputs that are constants are none of its doing: 1 is kTfLiteMmapRo.
  for (int node : interpreter.execution_plan()) {
    const auto* outputs_of = interpreter.node_and_registration(node)->first.outputs;
    for (int i = 0; i < outputs_of->size; ++i) {
      const int index = outputs_of->data[i];
      if (index < 0 || !done.insert(index).second) continue;
      const auto* source = interpreter.tensor(index);
      if (source->bytes == 0 || source->data.raw == nullptr || static_cast<int>(source->allocation_type) == 1) continue;
      frame.layer(index, source->name ? source->name : "", tensor(*source));
    }
  }
  return status;
}

}  // namespace exray

#endif  // EXRAY_TFLITE_H_
