// An app with a model that has the members of tflite::Interpreter and TfLiteTensor which exray_tflite.h uses.
#ifndef TFLITE_APP_H_
#define TFLITE_APP_H_

#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "exray_tflite.h"

namespace tflite_app {

struct IntArray {
  int size;
  int data[4];
};
struct FloatArray {
  int size;
  float data[4];
};
struct Affine {
  FloatArray* scale;
  IntArray* zero_point;
  std::int32_t quantized_dimension;
};
enum Type { kFloat32 = 1, kString = 5, kInt8 = 9, kResource = 14 };
enum Status { kOk, kError };
struct Tensor {
  Type type;
  union {
    char* raw;
  } data;
  IntArray* dims;
  std::size_t bytes;
  int allocation_type;
  const char* name;
  struct {
    int type;
    void* params;
  } quantization;
};
struct Node {
  IntArray* outputs;
};

// image [1, 4] int8 -> words, layer [1, 4] int8 by channel -> scores [1, 2] float32
class Interpreter {
 public:
  const std::vector<int>& inputs() const { return inputs_; }
  const std::vector<int>& outputs() const { return outputs_; }
  const std::vector<int>& execution_plan() const { return plan_; }
  std::vector<const std::string*> signature_keys() const { return {&key_}; }
  const std::map<std::string, std::uint32_t>& signature_inputs(const char*) const { return signature_inputs_; }
  const std::map<std::string, std::uint32_t>& signature_outputs(const char*) const { return signature_outputs_; }
  const Tensor* tensor(int index) const { return &tensors_[index]; }
  const std::pair<Node, int>* node_and_registration(int index) const { return &nodes_[index]; }

  Status Invoke() {
    // As the runtime may, it overwrites its input.
    for (int i = 0; i < 4; ++i) layer_[i] = static_cast<std::int8_t>(image_[i] * 2);
    std::memset(image_, 99, sizeof(image_));
    scores_[0] = layer_[0], scores_[1] = layer_[3];
    return ++runs_ == 3 ? kError : kOk;
  }

  void set_input(std::int8_t first) {
    for (int i = 0; i < 4; ++i) image_[i] = static_cast<std::int8_t>(first + i);
  }

 private:
  std::int8_t image_[4] = {}, layer_[4] = {};
  float scores_[2] = {}, constant_[2] = {};
  char words_[4 * 4 + 5] = {2, 0, 0, 0, 16, 0, 0, 0, 18, 0, 0, 0, 21, 0, 0, 0, 'h', 'i', 'y', 'o', 'u'};
  int runs_ = 0;
  IntArray row_ = {2, {1, 4}}, pair_ = {1, {2}}, zero_points_ = {1, {-3}}, zeros_ = {4, {0, 1, 2, 3}};
  FloatArray one_ = {1, {0.5f}}, four_ = {4, {0.5f, 0.25f, 0.125f, 2.0f}};
  Affine by_tensor_ = {&one_, &zero_points_, 0}, by_channel_ = {&four_, &zeros_, 1};
  IntArray first_ = {2, {1, 2}}, second_ = {2, {3, 4}};
  std::vector<int> inputs_ = {0}, outputs_ = {3}, plan_ = {0, 1};
  std::string key_ = "serving_default";
  std::map<std::string, std::uint32_t> signature_inputs_ = {{"image", 0}}, signature_outputs_ = {{"scores", 3}};
  Tensor tensors_[5] = {
      {kInt8, {reinterpret_cast<char*>(image_)}, &row_, 4, 2, "serving_default_image:0", {1, &by_tensor_}},
      {kString, {words_}, &pair_, sizeof(words_), 4, "words", {0, nullptr}},
      {kInt8, {reinterpret_cast<char*>(layer_)}, &row_, 4, 2, "net/layer", {1, &by_channel_}},
      {kFloat32, {reinterpret_cast<char*>(scores_)}, &pair_, 8, 2, "StatefulPartitionedCall:0", {0, nullptr}},
      {kFloat32, {reinterpret_cast<char*>(constant_)}, &pair_, 8, 1, "constant", {0, nullptr}}};
  std::pair<Node, int> nodes_[2] = {{{&first_}, 0}, {{&second_}, 0}};
};

inline void play(const std::string& path) {
  exray::Options options;
  options.path = path;
  options.level = exray::Level::layers;
  options.on_problem = [](const char*, const char*) {};
  exray::Monitor monitor(options);
  Interpreter interpreter;
  for (int i = 0; i < 4; ++i) {
    exray::Frame frame = monitor.frame();
    interpreter.set_input(static_cast<std::int8_t>(i));
    exray::run(frame, interpreter, {i != 1, ""});
    if (i == 3) exray::run(frame, interpreter, {true, ""});
  }
  exray::Frame frame = monitor.frame();
  Tensor resource = *interpreter.tensor(0);
  resource.type = kResource;
  frame.inputs({{"of a type that no log has", exray::tensor(resource)}});
}

}  // namespace tflite_app

#endif  // TFLITE_APP_H_
