// An app with the monitor: g++ -std=c++17 -O2 example.cpp -o example -pthread && ./example run.exray
#include <cstdint>
#include <cstdio>
#include <vector>

#include "exray_monitor.h"

namespace {

std::vector<std::uint8_t> photograph(int number) {
  std::vector<std::uint8_t> pixels(32 * 32 * 3);
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i * 7 + number * 31);
  return pixels;
}

std::vector<float> preprocess(const std::vector<std::uint8_t>& pixels) {
  std::vector<float> image;
  for (std::uint8_t pixel : pixels) image.push_back(static_cast<float>(pixel) / 127.5f - 1);
  return image;
}

// Stands for a model.
std::vector<float> infer(const std::vector<float>& image) {
  std::vector<float> scores(3);
  for (std::size_t i = 0; i < image.size(); ++i) scores[i % 3] += image[i];
  return scores;
}

}  // namespace

int main(int argc, char** argv) {
  exray::Options options;
  options.path = argc > 1 ? argv[1] : "run.exray";
  options.level = exray::Level::inputs;
  options.sampling.every = 10;
  options.sampling.label_change = true;
  options.app_name = "example";
  exray::Monitor monitor(options);
  for (int number = 0; number < 100; ++number) {
    exray::Frame frame = monitor.frame();
    const auto pixels = photograph(number);
    frame.raw(exray::tensor(pixels.data(), {32, 32, 3}));
    const auto image = frame.stage("preprocess", [&] { return preprocess(pixels); });
    frame.inputs({{"image", exray::tensor(image.data(), {1, 32, 32, 3})}});
    const auto scores = frame.stage("inference", [&] { return infer(image); });
    frame.outputs({{"scores", exray::tensor(scores.data(), {1, 3})}});
    frame.user("exposure_ms", 8.5);
  }
  monitor.close();
  const exray::Counts counts = monitor.counts();
  std::printf("%llu frames, %llu logged, %llu lost\n", static_cast<unsigned long long>(counts.seen),
              static_cast<unsigned long long>(counts.written), static_cast<unsigned long long>(counts.lost()));
}
