// Writes edge logs (schemas/edge_log.md) from a C++ app: one header, C++17, POSIX, no dependency.
//
//   exray::Options options;
//   options.path = "run.exray";
//   options.level = exray::Level::layers;
//   options.sampling.rate = 0.01;
//   exray::Monitor monitor(options);
//   while (camera.next(&image)) {
//     exray::Frame frame = monitor.frame();
//     frame.raw(exray::tensor(image.pixels, {480, 640, 3}));
//     auto x = frame.stage("preprocess", [&] { return preprocess(image); });
//     frame.inputs({{"image", exray::tensor(x.data(), {1, 224, 224, 3})}});
//     frame.stage("inference", [&] { model.run(x, y); });
//     frame.outputs({{"scores", exray::tensor(y.data(), {1, 10})}});
//   }  // the end of the frame's scope is the end of the frame
//
// With TensorFlow Lite, exray_tflite.h does the three lines around the run, and logs layers, in one.
//
// A log ends with its Monitor: an app that leaves by exit() calls close() before. The child of a fork logs nothing.
// Nothing here throws into the app or fails it: what goes wrong is counted in the log and told to Options::on_problem.
// A Monitor may be used from any number of threads, a Frame by one at a time. Also built without exceptions and RTTI.
#ifndef EXRAY_MONITOR_H_
#define EXRAY_MONITOR_H_

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <complex>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>
#include <exception>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <unordered_set>
#include <utility>
#include <vector>

#if defined(__cpp_rtti) && defined(__GNUC__)
#include <cxxabi.h>

#include <typeinfo>
#endif
#if defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#endif

#if defined(__cpp_exceptions)
#define EXRAY_TRY try
#define EXRAY_CATCH catch (...)
#else
#define EXRAY_TRY if (true)
#define EXRAY_CATCH else
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "Logs are little-endian, and tensors are written as they lie in memory."
#endif

namespace exray {

inline constexpr char kVersion[] = "0.1.0";

// Each level logs all of the one before: outputs (answers, times, hash of the raw data), inputs (what the model was
// fed, raw data), layers (tensors between the ops, times of the ops).
enum class Level { off, outputs, inputs, layers };

// What is logged of raw data; by_level: the hash at level outputs, the value above.
enum class Raw { by_level, none, hash, value };

// What happens to a frame when the queue is full: it is dropped and counted, or the app waits.
enum class Policy { drop, block };

enum class DType {
  boolean, int8, uint8, int16, uint16, int32, uint32, int64, uint64,
  float16, bfloat16, float32, float64, complex64, complex128, string
};

namespace detail {

struct DTypeInfo {
  const char* name;
  std::size_t bytes;  // of an element
};

inline constexpr DTypeInfo kDTypes[] = {
    {"bool", 1},    {"int8", 1},     {"uint8", 1},   {"int16", 2},   {"uint16", 2},    {"int32", 4},
    {"uint32", 4},  {"int64", 8},    {"uint64", 8},  {"float16", 2}, {"bfloat16", 2},  {"float32", 4},
    {"float64", 8}, {"complex64", 8}, {"complex128", 16}, {"string", 0}};

inline const DTypeInfo& info(DType dtype) { return kDTypes[static_cast<int>(dtype)]; }

template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, bool>) {
    return DType::boolean;
  } else if constexpr (std::is_same_v<T, float>) {
    return DType::float32;
  } else if constexpr (std::is_same_v<T, double>) {
    return DType::float64;
  } else if constexpr (std::is_same_v<T, std::complex<float>>) {
    return DType::complex64;
  } else if constexpr (std::is_same_v<T, std::complex<double>>) {
    return DType::complex128;
  } else {
    static_assert(std::is_integral_v<T>, "give elements of this type as bytes, with their DType");
    if constexpr (sizeof(T) == 1) return std::is_signed_v<T> ? DType::int8 : DType::uint8;
    if constexpr (sizeof(T) == 2) return std::is_signed_v<T> ? DType::int16 : DType::uint16;
    if constexpr (sizeof(T) == 4) return std::is_signed_v<T> ? DType::int32 : DType::uint32;
    if constexpr (sizeof(T) == 8) return std::is_signed_v<T> ? DType::int64 : DType::uint64;
  }
}

inline float half_to_float(std::uint16_t half) {
  const int exponent = half >> 10 & 31;
  const auto fraction = static_cast<float>(half & 1023);
  float value;
  if (exponent == 31) {
    value = fraction > 0 ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::infinity();
  } else {
    value = exponent ? std::ldexp(1.0f + fraction / 1024.0f, exponent - 15) : std::ldexp(fraction / 1024.0f, -14);
  }
  return half & 0x8000 ? -value : value;
}

template <class T>
T load(const void* data, std::size_t index) {
  T value;
  std::memcpy(&value, static_cast<const char*>(data) + index * sizeof(T), sizeof(T));
  return value;
}

}  // namespace detail

// A view of a tensor's elements in C order. It is read before the call that it is given to returns.
struct Tensor {
  DType dtype = DType::float32;
  const void* data = nullptr;
  std::size_t bytes = 0;
  std::vector<std::int64_t> shape;
  std::vector<float> scale;  // of quantised tensors: one, or one for each index of `axis`
  std::vector<std::int64_t> zero_point;
  int axis = 0;
  std::vector<std::string_view> strings;  // the elements of DType::string

  // The same, quantised: real = scale * (stored - zero_point).
  Tensor quantized(float one_scale, std::int64_t one_zero_point) const {
    Tensor result = *this;
    result.scale = {one_scale};
    result.zero_point = {one_zero_point};
    return result;
  }
  Tensor quantized(std::vector<float> scales, std::vector<std::int64_t> zero_points, int quantized_axis) const {
    Tensor result = *this;
    result.scale = std::move(scales);
    result.zero_point = std::move(zero_points);
    result.axis = quantized_axis;
    return result;
  }

  // Number of elements.
  std::size_t size() const {
    std::size_t count = 1;
    for (std::int64_t n : shape) count *= static_cast<std::size_t>(std::max<std::int64_t>(n, 0));
    return count;
  }

  // The stored value of an element; of strings and complex numbers NaN.
  double stored(std::size_t index) const {
    switch (dtype) {
      case DType::boolean:
      case DType::uint8: return detail::load<std::uint8_t>(data, index);
      case DType::int8: return detail::load<std::int8_t>(data, index);
      case DType::int16: return detail::load<std::int16_t>(data, index);
      case DType::uint16: return detail::load<std::uint16_t>(data, index);
      case DType::int32: return detail::load<std::int32_t>(data, index);
      case DType::uint32: return detail::load<std::uint32_t>(data, index);
      case DType::int64: return static_cast<double>(detail::load<std::int64_t>(data, index));
      case DType::uint64: return static_cast<double>(detail::load<std::uint64_t>(data, index));
      case DType::float16: return detail::half_to_float(detail::load<std::uint16_t>(data, index));
      case DType::bfloat16: {
        const std::uint32_t bits = std::uint32_t{detail::load<std::uint16_t>(data, index)} << 16;
        return detail::load<float>(&bits, 0);
      }
      case DType::float32: return detail::load<float>(data, index);
      case DType::float64: return detail::load<double>(data, index);
      default: return std::numeric_limits<double>::quiet_NaN();
    }
  }

  // The value that an element stands for: dequantised, to float32, if the tensor is quantised.
  double real(std::size_t index) const {
    if (scale.empty()) return stored(index);
    std::size_t channel = 0;
    if (scale.size() > 1) {
      std::size_t stride = 1;
      for (std::size_t i = static_cast<std::size_t>(axis) + 1; i < shape.size(); ++i) {
        stride *= static_cast<std::size_t>(shape[i]);
      }
      channel = index / stride % scale.size();
    }
    return static_cast<float>((stored(index) - static_cast<double>(zero_point[channel])) * scale[channel]);
  }

  // Whether the parts fit each other.
  bool valid() const {
    for (std::int64_t n : shape) {
      if (n < 0) return false;
    }
    if (scale.size() != zero_point.size()) return false;
    if (scale.size() > 1) {
      if (axis < 0 || static_cast<std::size_t>(axis) >= shape.size()) return false;
      if (static_cast<std::int64_t>(scale.size()) != shape[static_cast<std::size_t>(axis)]) return false;
    }
    if (dtype == DType::string) return strings.size() == size();
    return bytes == size() * detail::info(dtype).bytes && (data != nullptr || bytes == 0);
  }
};

// Elements of a C++ type; size and type of the tensor follow from it.
template <class T>
Tensor tensor(const T* data, std::vector<std::int64_t> shape) {
  Tensor result;
  result.dtype = detail::dtype_of<T>();
  result.data = data;
  result.shape = std::move(shape);
  result.bytes = result.size() * sizeof(T);
  return result;
}

// Elements as bytes, for types that C++ has not, such as float16.
inline Tensor tensor(DType dtype, const void* data, std::size_t bytes, std::vector<std::int64_t> shape) {
  Tensor result;
  result.dtype = dtype;
  result.data = data;
  result.bytes = bytes;
  result.shape = std::move(shape);
  return result;
}

// Strings; a single one of shape {} is how encoded data, such as a JPEG, is logged.
inline Tensor tensor(std::vector<std::string_view> strings, std::vector<std::int64_t> shape = {}) {
  Tensor result;
  result.dtype = DType::string;
  result.strings = std::move(strings);
  result.shape = std::move(shape);
  return result;
}

struct NamedTensor {
  std::string name;
  Tensor tensor;
};
using NamedTensors = std::vector<NamedTensor>;

// A frame is logged if any of the rules says so; with none at all every frame is.
struct Sampling {
  std::optional<double> rate;  // share of the frames, chosen by a hash of their ids: the same on all devices
  std::uint64_t seed = 0;      // chooses other ones
  std::uint64_t every = 0;     // every n-th frame; 0: not a rule
  std::optional<double> low_confidence;  // largest real value of the first output is below this
  bool label_change = false;             // the largest value of the first output is elsewhere than the frame before
  std::function<bool(const NamedTensors& outputs)> predicate;

  // Whether a rule has to see the outputs.
  bool triggers() const { return low_confidence || label_change || predicate; }
};

struct Options {
  std::string path;  // of the log's first file
  Level level = Level::outputs;
  Sampling sampling;
  Raw raw = Raw::by_level;
  Policy policy = Policy::drop;
  std::size_t queue_bytes = std::size_t{128} << 20;    // of frames waiting to be written; a larger one waits alone
  std::uint64_t max_bytes = std::uint64_t{1} << 30;  // of all files of the log; the oldest are deleted; 0: no limit
  std::uint64_t file_bytes = 0;                      // of a file, before the next is begun; 0: an eighth of max_bytes
  bool sync = false;                                 // fsync after every record, not only at the end of a file
  // What the log says of its origin; what is empty or 0 is left out.
  std::string model_sha256;  // see sha256_of_file
  std::string model_name, input_contract, device_name, device_os, app_name, app_version, kernels;
  int threads = 0;
  std::map<std::string, std::string> user;
  // Told of each problem, from any thread; without it, the first of each kind goes to stderr.
  std::function<void(const char* kind, const char* message)> on_problem;
};

// Of the run up to now, as in a footer.
struct Counts {
  std::uint64_t seen = 0, sampled = 0, written = 0;
  std::map<std::string, std::uint64_t> dropped, problems;
  std::uint64_t deleted_files = 0, deleted_bytes = 0, deleted_frames = 0;

  std::uint64_t lost() const {
    std::uint64_t sum = 0;
    for (const auto& [reason, count] : dropped) sum += count;
    return sum;
  }
};

namespace detail {

// ---- checksums and hashes ----

template <std::uint32_t polynomial>
struct CrcTables {
  std::uint32_t of[8][256];

  constexpr CrcTables() : of() {
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t state = i;
      for (int bit = 0; bit < 8; ++bit) state = state >> 1 ^ (state & 1 ? polynomial : 0);
      of[0][i] = state;
    }
    for (int k = 1; k < 8; ++k) {
      for (int i = 0; i < 256; ++i) of[k][i] = of[k - 1][i] >> 8 ^ of[0][of[k - 1][i] & 0xFF];
    }
  }
};

// Eight bytes at a time ("slicing by 8", Kounavis and Berry 2005).
template <std::uint32_t polynomial>
std::uint32_t table_crc(std::uint32_t crc, const void* data, std::size_t size) {
  static constexpr CrcTables<polynomial> tables;
  const auto& t = tables.of;
  const auto* p = static_cast<const unsigned char*>(data);
  std::uint32_t state = ~crc;
  for (; size >= 8; size -= 8, p += 8) {
    const auto low = load<std::uint32_t>(p, 0) ^ state, high = load<std::uint32_t>(p, 1);
    state = t[7][low & 0xFF] ^ t[6][low >> 8 & 0xFF] ^ t[5][low >> 16 & 0xFF] ^ t[4][low >> 24] ^ t[3][high & 0xFF] ^
            t[2][high >> 8 & 0xFF] ^ t[1][high >> 16 & 0xFF] ^ t[0][high >> 24];
  }
  for (; size > 0; --size, ++p) state = state >> 8 ^ t[0][(state ^ *p) & 0xFF];
  return ~state;
}

inline constexpr std::uint32_t kCastagnoli = 0x82F63B78, kZlib = 0xEDB88320;

#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("sse4.2"))) inline std::uint32_t sse_crc32c(std::uint32_t crc, const void* data,
                                                                  std::size_t size) {
  const auto* p = static_cast<const unsigned char*>(data);
  std::uint64_t state = ~crc;
  for (; size >= 8; size -= 8, p += 8) state = __builtin_ia32_crc32di(state, load<std::uint64_t>(p, 0));
  auto rest = static_cast<std::uint32_t>(state);
  for (; size > 0; --size, ++p) rest = __builtin_ia32_crc32qi(rest, *p);
  return ~rest;
}
#endif

inline std::uint32_t crc32c(std::uint32_t crc, const void* data, std::size_t size) {
#if defined(__x86_64__) && defined(__GNUC__)
  static const bool native = __builtin_cpu_supports("sse4.2");
  if (native) return sse_crc32c(crc, data, size);
#elif defined(__ARM_FEATURE_CRC32) && defined(__aarch64__)
  const auto* p = static_cast<const unsigned char*>(data);
  std::uint32_t state = ~crc;
  for (; size >= 8; size -= 8, p += 8) state = __crc32cd(state, load<std::uint64_t>(p, 0));
  for (; size > 0; --size, ++p) state = __crc32cb(state, *p);
  return ~state;
#endif
  return table_crc<kCastagnoli>(crc, data, size);
}

inline std::uint32_t mask(std::uint32_t crc) { return (crc >> 15 | crc << 17) + 0xA282EAD8u; }

// FIPS 180-4.
class Sha256 {
 public:
  void update(const void* data, std::size_t size) {
    const auto* p = static_cast<const unsigned char*>(data);
    total_ += size;
    while (size > 0) {
      const std::size_t n = std::min(size, sizeof(block_) - filled_);
      std::memcpy(block_ + filled_, p, n);
      filled_ += n, p += n, size -= n;
      if (filled_ == sizeof(block_)) compress();
    }
  }

  // 64 hexadecimal digits; nothing may be added afterwards.
  std::string hex() {
    const std::uint64_t bits = total_ * 8;
    update("\x80", 1);
    while (filled_ != 56) update("", 1);
    unsigned char length[8];
    for (int i = 0; i < 8; ++i) length[i] = static_cast<unsigned char>(bits >> (56 - 8 * i));
    update(length, 8);
    std::string result;
    for (std::uint32_t word : state_) {
      for (int shift = 28; shift >= 0; shift -= 4) result += "0123456789abcdef"[word >> shift & 15];
    }
    return result;
  }

 private:
  static std::uint32_t rotate(std::uint32_t x, int n) { return x >> n | x << (32 - n); }

  void compress() {
    static constexpr std::uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    std::uint32_t w[64];
    for (int i = 0; i < 16; ++i) {
      w[i] = std::uint32_t{block_[4 * i]} << 24 | std::uint32_t{block_[4 * i + 1]} << 16 |
             std::uint32_t{block_[4 * i + 2]} << 8 | block_[4 * i + 3];
    }
    for (int i = 16; i < 64; ++i) {
      const std::uint32_t x = w[i - 15], y = w[i - 2];
      w[i] = w[i - 16] + (rotate(x, 7) ^ rotate(x, 18) ^ x >> 3) + w[i - 7] + (rotate(y, 17) ^ rotate(y, 19) ^ y >> 10);
    }
    auto [a, b, c, d, e, f, g, h] = state_;
    for (int i = 0; i < 64; ++i) {
      const std::uint32_t one =
          h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + k[i] + w[i];
      const std::uint32_t two = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + one, d = c, c = b, b = a, a = one + two;
    }
    const std::array<std::uint32_t, 8> added = {a, b, c, d, e, f, g, h};
    for (std::size_t i = 0; i < 8; ++i) state_[i] += added[i];
    filled_ = 0;
  }

  std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  unsigned char block_[64];
  std::size_t filled_ = 0;
  std::uint64_t total_ = 0;
};

// ---- tf.Example on the wire ----

inline void put_varint(std::string& out, std::uint64_t value) {
  for (; value > 0x7F; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

inline std::size_t varint_size(std::uint64_t value) {
  std::size_t size = 1;
  for (; value > 0x7F; value >>= 7) ++size;
  return size;
}

// Tag and length of a length-delimited field.
inline void put_field(std::string& out, int number, std::size_t size) {
  out += static_cast<char>(number << 3 | 2);
  put_varint(out, size);
}

inline std::size_t field_size(std::size_t content) { return 1 + varint_size(content) + content; }

// Keys and texts of protobuf are UTF-8, and a reader refuses a record with any that is not.
inline std::string utf8(std::string_view text) {
  std::string result(text);
  const auto byte = [&](std::size_t i) { return i < result.size() ? static_cast<unsigned char>(result[i]) : 0u; };
  for (std::size_t i = 0; i < result.size();) {
    const unsigned lead = byte(i), next = byte(i + 1);
    const std::size_t length = lead < 0x80 ? 1 : lead >= 0xC2 && lead < 0xE0 ? 2 : lead >> 4 == 0xE ? 3
                               : lead >= 0xF0 && lead < 0xF5                 ? 4 : 0;
    bool good = length > 0 && i + length <= result.size();
    for (std::size_t j = 1; good && j < length; ++j) good = byte(i + j) >> 6 == 2;
    // Overlong forms, surrogates, and what lies beyond U+10FFFF.
    good = good && !(lead == 0xE0 && next < 0xA0) && !(lead == 0xED && next > 0x9F) &&
           !(lead == 0xF0 && next < 0x90) && !(lead == 0xF4 && next > 0x8F);
    if (!good) result[i] = '?';
    i += good ? length : 1;
  }
  return result;
}

enum List { kBytes = 1, kFloats = 2, kInts = 3 };

// Everything of a feature before the content of its list, whose size is given.
inline void put_feature_head(std::string& out, std::string_view key, List list, std::size_t size) {
  const std::size_t feature = field_size(size);
  put_field(out, 1, field_size(key.size()) + field_size(feature));
  put_field(out, 1, key.size());
  out += key;
  put_field(out, 2, feature);
  put_field(out, list, size);
}

inline void put_list(std::string& out, std::string_view key, List list, std::string_view content) {
  put_feature_head(out, key, list, content.size());
  out += content;
}

inline void put_text(std::string& out, std::string_view key, std::string_view text) {
  put_feature_head(out, key, kBytes, field_size(text.size()));
  put_field(out, 1, text.size());
  out += text;
}

inline std::string ints(const std::vector<std::int64_t>& values) {
  std::string numbers, result;
  for (std::int64_t value : values) put_varint(numbers, static_cast<std::uint64_t>(value));
  put_field(result, 1, numbers.size());
  return result + numbers;
}

inline std::string floats(const float* values, std::size_t count) {
  std::string result;
  put_field(result, 1, count * sizeof(float));
  return result.append(reinterpret_cast<const char*>(values), count * sizeof(float));
}

inline std::string texts(const std::vector<std::string>& values) {
  std::string result;
  for (const std::string& value : values) {
    put_field(result, 1, value.size());
    result += value;
  }
  return result;
}

inline void put_int(std::string& out, std::string_view key, std::int64_t value) {
  put_list(out, key, kInts, ints({value}));
}

inline void put_count(std::string& out, const std::string& key, std::uint64_t value) {
  put_int(out, key, static_cast<std::int64_t>(value));
}

// The features of a tensor but its value.
inline void put_description(std::string& out, const std::string& role, const std::string& name, const Tensor& tensor) {
  put_text(out, role + ".dtype/" + name, info(tensor.dtype).name);
  put_list(out, role + ".shape/" + name, kInts, ints(tensor.shape));
  if (tensor.scale.empty()) return;
  put_list(out, role + ".scale/" + name, kFloats, floats(tensor.scale.data(), tensor.scale.size()));
  put_list(out, role + ".zero_point/" + name, kInts, ints(tensor.zero_point));
  if (tensor.scale.size() > 1) put_int(out, role + ".axis/" + name, tensor.axis);
}

inline void put_value(std::string& out, const std::string& key, const Tensor& tensor) {
  if (tensor.dtype == DType::string) {
    put_list(out, key, kBytes, texts({tensor.strings.begin(), tensor.strings.end()}));
    return;
  }
  put_feature_head(out, key, kBytes, field_size(tensor.bytes));
  put_field(out, 1, tensor.bytes);
  out.append(static_cast<const char*>(tensor.data), tensor.bytes);
}

// The shortest decimal number that is this one, as JSON has it.
inline std::string json(double value) {
  char text[40];
  for (int digits = 1; digits <= 17; ++digits) {
    std::snprintf(text, sizeof(text), "%.*g", digits, value);
    if (std::strtod(text, nullptr) == value) break;
  }
  std::replace(text, text + std::strlen(text), ',', '.');  // of the app's locale
  return text;
}

// ---- the system ----

inline std::int64_t now(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return std::int64_t{time.tv_sec} * 1000000000 + time.tv_nsec;
}

inline std::string first_line(const std::string& path) {
  std::string result;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return result;
  char text[256];
  const ssize_t n = ::read(fd, text, sizeof(text));
  ::close(fd);
  if (n > 0) result.assign(text, static_cast<std::size_t>(n));
  return result.substr(0, result.find('\n'));
}

inline std::vector<std::string> names_in(const std::string& directory) {
  std::vector<std::string> names;
  DIR* opened = ::opendir(directory.c_str());
  if (opened == nullptr) return names;
  while (const dirent* entry = ::readdir(opened)) names.emplace_back(entry->d_name);
  ::closedir(opened);
  return names;
}

// Battery (of several the emptiest) and temperature (the hottest zone), where Linux tells them.
struct Climate {
  std::optional<float> battery_percent, temperature_c;

  static Climate read() {
    Climate climate;
    const std::string supplies = "/sys/class/power_supply/", zones = "/sys/class/thermal/";
    for (const std::string& name : names_in(supplies)) {
      const std::string percent = first_line(supplies + name + "/capacity");
      if (percent.empty()) continue;
      const float charge = std::strtof(percent.c_str(), nullptr);
      climate.battery_percent = std::min(climate.battery_percent.value_or(charge), charge);
    }
    for (const std::string& name : names_in(zones)) {
      if (name.rfind("thermal_zone", 0) != 0) continue;
      const std::string millidegrees = first_line(zones + name + "/temp");
      if (millidegrees.empty()) continue;
      const float degrees = std::strtof(millidegrees.c_str(), nullptr) / 1000;
      climate.temperature_c = std::max(climate.temperature_c.value_or(degrees), degrees);
    }
    return climate;
  }
};

// A record in the parts it is made of; big tensors are copied once, when they are logged, and never joined.
struct Record {
  std::string head, body;  // features
  std::vector<std::pair<std::string, std::string>> to_hash;  // name of a raw tensor, its bytes

  std::size_t memory() const {
    std::size_t size = head.size() + body.size();
    for (const auto& [name, bytes] : to_hash) size += bytes.size();
    return size;
  }
};

// Size of a record with so many bytes of features, in its file.
inline std::uint64_t record_size(std::size_t features) { return 8 + 4 + field_size(features) + 4; }

// The files of a log: names, rotation, records. Used by one thread.
class LogFiles {
 public:
  static constexpr std::uint64_t kFooterBytes = 4096;  // more than one takes

  enum class Outcome { written, io, too_large, failed };

  LogFiles(const Options& options, std::function<std::string(int part)> header,
           std::function<std::string(int part, bool final)> footer, std::function<void()> on_unclosed,
           Counts* counts)
      : file_bytes_(options.file_bytes ? options.file_bytes : options.max_bytes / 8),
        max_bytes_(options.max_bytes),
        sync_(options.sync),
        header_(std::move(header)),
        footer_(std::move(footer)),
        on_unclosed_(std::move(on_unclosed)),
        counts_(counts) {
    const std::size_t slash = options.path.rfind('/');
    directory_ = slash == std::string::npos ? "./" : options.path.substr(0, slash + 1);
    stem_ = slash == std::string::npos ? options.path : options.path.substr(slash + 1);
    const std::size_t dot = stem_.rfind('.');
    if (dot != std::string::npos && dot > 0) {
      suffix_ = stem_.substr(dot);
      stem_.resize(dot);
    }
  }

  // Begins a file unless one is open.
  bool begin() {
    if (fd_ >= 0) return true;
    for (std::size_t i = 1; i < directory_.size(); ++i) {
      if (directory_[i] == '/') ::mkdir(directory_.substr(0, i).c_str(), 0755);  // what fails here, fails below again
    }
    for (int attempt = 0; attempt < 1000; ++attempt) {
      const auto files = list();
      number_ = files.empty() ? 0 : files.rbegin()->first + 1;
      fd_ = ::open(path(number_).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
      if (fd_ >= 0 || errno != EEXIST) break;
    }
    if (fd_ < 0) return false;
    size_ = 0;
    if (!append(header_(part_), {})) {
      const int error = errno;
      // A file without a header is none; nobody has seen this one.
      ::close(fd_);
      fd_ = -1;
      ::unlink(path(number_).c_str());
      errno = error;
      return false;
    }
    own_[number_] = 0;
    ++part_;
    others_ = 0;
    for (const auto& [number, bytes] : list()) others_ += number == number_ ? 0 : bytes;
    return true;
  }

  // Writes a frame, into the next file where the limits say so.
  Outcome write(const std::string& head, const std::string& body) {
    if (head.size() + body.size() >= (std::size_t{1} << 31) - 16) return Outcome::too_large;
    const std::uint64_t needed = record_size(head.size() + body.size());
    const bool full = fd_ >= 0 && file_bytes_ && size_ + needed > file_bytes_ && own_[number_] > 0;
    if (max_bytes_) {
      const bool starts = fd_ < 0 || full;
      const std::uint64_t wanted = needed + kFooterBytes + (starts ? record_size(header_(part_).size()) : 0);
      if (wanted + (starts ? 0 : size_) > max_bytes_) return Outcome::too_large;
      if (full) end(false);
      make_room(wanted);
    } else if (full) {
      end(false);
    }
    if (!begin()) return Outcome::io;
    if (!append(head, body)) {
      // A file that may not grow, or cannot be cut back to its last whole record, is left behind.
      if (errno != EFBIG && fd_ >= 0) return Outcome::io;
      end(false);
      if (!begin() || !append(head, body)) return Outcome::io;
    }
    ++own_[number_];
    return Outcome::written;
  }

  // Ends the file with its footer.
  void end(bool final) {
    if (fd_ < 0) return;
    const bool written = append(footer_(part_ - 1, final), {});
    if (fd_ < 0) return;  // append has given it up
    others_ += size_;
    const bool synced = ::fsync(fd_) == 0;
    const bool closed = ::close(fd_) == 0;
    fd_ = -1;
    if (!written || !synced || !closed) on_unclosed_();
  }

  std::string current() const { return path(number_); }

 private:
  std::string path(std::uint64_t number) const {
    if (number == 0) return directory_ + stem_ + suffix_;
    char digits[24];
    std::snprintf(digits, sizeof(digits), "-%05llu", static_cast<unsigned long long>(number));
    return directory_ + stem_ + digits + suffix_;
  }

  // Number and size of the files of the log's name that exist.
  std::map<std::uint64_t, std::uint64_t> list() const {
    std::map<std::uint64_t, std::uint64_t> files;
    for (const std::string& name : names_in(directory_)) {
      std::uint64_t number = 0;
      if (name != stem_ + suffix_) {
        const std::size_t fixed = stem_.size() + 1 + suffix_.size();
        if (name.size() < fixed + 5 || name.size() > fixed + 18) continue;
        if (name.compare(0, stem_.size() + 1, stem_ + "-") != 0) continue;
        if (name.compare(name.size() - suffix_.size(), suffix_.size(), suffix_) != 0) continue;
        const std::string digits = name.substr(stem_.size() + 1, name.size() - fixed);
        if (digits.find_first_not_of("0123456789") != std::string::npos) continue;
        number = std::strtoull(digits.c_str(), nullptr, 10);
      }
      struct stat status{};
      if (::stat((directory_ + name).c_str(), &status) == 0) files[number] = static_cast<std::uint64_t>(status.st_size);
    }
    return files;
  }

  // Deletes the oldest files until so many bytes more are allowed.
  void make_room(std::uint64_t wanted) {
    if (others_ + (fd_ >= 0 ? size_ : 0) + wanted <= max_bytes_ && part_ > 0) return;
    auto files = list();
    std::uint64_t total = 0;
    for (const auto& [number, bytes] : files) total += bytes;
    for (const auto& [number, bytes] : files) {
      if (total + wanted <= max_bytes_) break;
      if ((fd_ >= 0 && number == number_) || ::unlink(path(number).c_str()) != 0) continue;
      total -= bytes;
      ++counts_->deleted_files;
      counts_->deleted_bytes += bytes;
      const auto mine = own_.find(number);
      if (mine != own_.end()) {
        counts_->deleted_frames += mine->second;
        own_.erase(mine);
      }
    }
    others_ = total - (fd_ >= 0 ? size_ : 0);
  }

  // Appends a record in one call. What could be written of it only in part is cut off again; where that fails too the
  // file is given up.
  bool append(const std::string& head, const std::string& body) {
    std::string prefix;
    put_field(prefix, 1, head.size() + body.size());
    char length[12], tail[4];
    const std::uint64_t size = prefix.size() + head.size() + body.size();
    std::memcpy(length, &size, 8);
    const std::uint32_t length_crc = mask(crc32c(0, length, 8));
    std::memcpy(length + 8, &length_crc, 4);
    std::uint32_t crc = crc32c(0, prefix.data(), prefix.size());
    crc = crc32c(crc, head.data(), head.size());
    crc = mask(crc32c(crc, body.data(), body.size()));
    std::memcpy(tail, &crc, 4);
    std::array<iovec, 5> parts = {iovec{length, 12}, part(prefix), part(head), part(body), iovec{tail, 4}};
    std::size_t first = 0;
    while (first < parts.size()) {
      ssize_t written = ::writev(fd_, parts.data() + first, static_cast<int>(parts.size() - first));
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) {
        const int error = written < 0 ? errno : EIO;
        if (::ftruncate(fd_, static_cast<off_t>(size_)) != 0) {
          ::close(fd_);
          fd_ = -1;
          others_ += size_;
          on_unclosed_();
        }
        errno = error;
        return false;
      }
      while (first < parts.size() && static_cast<std::size_t>(written) >= parts[first].iov_len) {
        written -= static_cast<ssize_t>(parts[first++].iov_len);
      }
      if (first < parts.size()) {
        parts[first].iov_base = static_cast<char*>(parts[first].iov_base) + written;
        parts[first].iov_len -= static_cast<std::size_t>(written);
      }
    }
    size_ += 12 + size + 4;
    if (sync_) ::fsync(fd_);
    return true;
  }

  static iovec part(const std::string& text) { return {const_cast<char*>(text.data()), text.size()}; }

  std::string directory_, stem_, suffix_;
  std::uint64_t file_bytes_, max_bytes_;
  bool sync_;
  std::function<std::string(int)> header_;
  std::function<std::string(int, bool)> footer_;
  std::function<void()> on_unclosed_;
  Counts* counts_;
  int fd_ = -1, part_ = 0;
  std::uint64_t number_ = 0, size_ = 0, others_ = 0;
  std::map<std::uint64_t, std::uint64_t> own_;  // frames in each file of this run
};

// What frames share, and the thread that writes. It outlives the Monitor while frames are open.
class Core {
 public:
  explicit Core(Options given) : options(std::move(given)) {
    Sampling& sampling = options.sampling;
    if (!sampling.rate && !sampling.every && !sampling.triggers()) sampling.rate = 1.0;
    if (options.path.empty() || (sampling.rate && !(*sampling.rate >= 0 && *sampling.rate <= 1))) {
      problem("internal", "the path is empty or the rate is no share from 0 to 1: nothing is logged");
      options.level = Level::off;
    }
    if (options.raw == Raw::by_level) options.raw = options.level == Level::outputs ? Raw::hash : Raw::value;
    if (options.level == Level::off) return;
    std::random_device random;
    for (int i = 0; i < 32; ++i) log_id_ += "0123456789abcdef"[random() & 15];
    statm_ = ::open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  }

  ~Core() {
    if (statm_ >= 0) ::close(statm_);
  }

  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  void start() { thread_ = std::thread([this] { run(); }); }

  // Whether frames have nowhere to go. The child of a fork has the queue, but not the thread.
  bool closed() const { return closed_.load(std::memory_order_relaxed) || ::getpid() != process_; }

  // Whether a frame would be dropped now: it need not be copied then.
  bool full() const {
    if (options.policy == Policy::block) return false;
    const std::lock_guard<std::mutex> lock(mutex_);
    return queued_bytes_ >= options.queue_bytes;
  }

  std::int64_t next_sequence() { return sequence_.fetch_add(1, std::memory_order_relaxed); }

  // Rules that need no outputs.
  const char* sampled_at_begin(const std::string& id, std::int64_t sequence) const {
    const Sampling& sampling = options.sampling;
    if (sampling.rate && hashed(id, sampling.seed) < std::floor(*sampling.rate * 4294967296.0)) return "rate";
    if (sampling.every && static_cast<std::uint64_t>(sequence) % sampling.every == 0) return "every";
    return nullptr;
  }

  // Rules that need them; also of frames that are logged already, because the next one is compared with this one.
  const char* sampled_after_run(const NamedTensors& outputs, bool decided) {
    const Sampling& sampling = options.sampling;
    const bool readable = !outputs.empty() && outputs[0].tensor.valid() && outputs[0].tensor.size() > 0 &&
                          outputs[0].tensor.dtype < DType::complex64;
    const char* rule = nullptr;
    if (readable && (sampling.low_confidence || sampling.label_change)) {
      const Tensor& first = outputs[0].tensor;
      std::int64_t label = 0;
      double largest_stored = first.stored(0), largest = first.real(0);
      for (std::size_t i = 1; i < first.size(); ++i) {
        // As NumPy has it, NaN is larger than everything.
        const double stored = first.stored(i), real = first.real(i);
        if (!std::isnan(largest_stored) && !(stored <= largest_stored)) {
          largest_stored = stored;
          label = static_cast<std::int64_t>(i);
        }
        if (!std::isnan(largest) && !(real <= largest)) largest = real;
      }
      if (sampling.low_confidence && largest < *sampling.low_confidence) rule = "low_confidence";
      const std::int64_t previous = label_.exchange(label);
      if (!rule && sampling.label_change && previous >= 0 && label != previous) rule = "label_change";
    }
    if (!rule && !decided && sampling.predicate) {
      EXRAY_TRY {
        if (sampling.predicate(outputs)) rule = "predicate";
      }
      EXRAY_CATCH { problem("trigger", "the predicate threw an exception"); }
    }
    return rule;
  }

  void count_sampled() {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++counts_.sampled;
  }

  void drop(const char* reason) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!closed_) ++counts_.dropped[reason];
    }
    tell(reason, *reason == 'q' ? "frames come faster than they are written"
                                : "a frame is lost: the parts of a tensor do not fit each other, or memory ran out");
  }

  void problem(const char* kind, const char* message) noexcept {
    EXRAY_TRY {
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        ++counts_.problems[kind];
      }
      tell(kind, message);
    }
    EXRAY_CATCH {}
  }

  std::uint64_t lost() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return counts_.lost();
  }

  // A buffer of a frame that was written: new memory costs more than filling it.
  std::string buffer() {
    std::string result;
    std::size_t usual = 0;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      usual = usual_size_;
      if (!spare_.empty()) {
        result = std::move(spare_.back());
        spare_.pop_back();
        spare_bytes_ -= result.capacity();
      }
    }
    result.reserve(usual);
    return result;
  }

  void submit(Record&& record) {
    const std::size_t memory = record.memory();
    std::unique_lock<std::mutex> lock(mutex_);
    const auto fits = [&] { return queued_bytes_ == 0 || queued_bytes_ + memory <= options.queue_bytes; };
    if (options.policy == Policy::block) space_.wait(lock, [&] { return fits() || closed_; });
    if (closed_) return;  // counted as such in the footer
    if (!fits()) {
      recycle(std::move(record.body));
      lock.unlock();
      drop("queue");
      return;
    }
    queued_bytes_ += memory;
    usual_size_ = record.body.size();
    queue_.push_back(std::move(record));
    lock.unlock();
    work_.notify_one();
  }

  void give_back(std::string&& buffer) {
    const std::lock_guard<std::mutex> lock(mutex_);
    recycle(std::move(buffer));
  }

  void close() {
    if (::getpid() != process_) {
      if (thread_.joinable()) thread_.detach();
      return;
    }
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      closed_ = true;
    }
    work_.notify_all();
    space_.notify_all();
    const std::lock_guard<std::mutex> lock(join_mutex_);
    if (thread_.joinable()) thread_.join();
  }

  Counts counts() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    Counts result = counts_;
    result.seen = static_cast<std::uint64_t>(sequence_.load());
    return result;
  }

  Options options;
  // What the app tells.
  std::atomic<float> battery_percent{std::numeric_limits<float>::quiet_NaN()};
  std::atomic<float> temperature_c{std::numeric_limits<float>::quiet_NaN()};

 private:
  static std::uint32_t hashed(const std::string& id, std::uint64_t seed) {
    std::uint32_t h = table_crc<kZlib>(0, &seed, 8);
    h = table_crc<kZlib>(h, id.data(), id.size());
    h = (h ^ h >> 16) * 0x85EBCA6Bu;
    h = (h ^ h >> 13) * 0xC2B2AE35u;
    return h ^ h >> 16;
  }

  void tell(const char* kind, const char* message) noexcept {
    EXRAY_TRY {
      if (options.on_problem) {
        options.on_problem(kind, message);
        return;
      }
      const std::lock_guard<std::mutex> lock(mutex_);
      if (told_.insert(kind).second) std::fprintf(stderr, "exray (%s): %s\n", kind, message);
    }
    EXRAY_CATCH {}
  }

  void recycle(std::string&& buffer) {
    constexpr std::size_t kSpare = 64;
    if (spare_.size() >= kSpare || spare_bytes_ + buffer.capacity() > options.queue_bytes) return;
    spare_bytes_ += buffer.capacity();
    buffer.clear();
    spare_.push_back(std::move(buffer));
  }

  std::string header(int part) const {
    static constexpr const char* kLevels[] = {"off", "outputs", "inputs", "layers"};
    static constexpr const char* kRaw[] = {"", "none", "hash", "value"};
    const Sampling& sampling = options.sampling;
    std::string rules;
    if (sampling.rate) rules += ", \"rate\": " + json(*sampling.rate) + ", \"seed\": " + std::to_string(sampling.seed);
    if (sampling.every) rules += ", \"every\": " + std::to_string(sampling.every);
    if (sampling.low_confidence) rules += ", \"low_confidence\": " + json(*sampling.low_confidence);
    if (sampling.label_change) rules += ", \"label_change\": true";
    if (sampling.predicate) rules += ", \"predicate\": true";
    std::string out;
    put_text(out, "exray/kind", "header");
    put_int(out, "exray/format_version", 1);
    put_text(out, "exray/writer", std::string("cpp/") + kVersion);
    put_text(out, "exray/log_id", log_id_);
    put_int(out, "exray/part", part);
    put_int(out, "exray/time_ns", now(CLOCK_REALTIME));
    put_int(out, "exray/monotonic_ns", now(CLOCK_MONOTONIC));
    put_text(out, "exray/clock", "CLOCK_MONOTONIC");
    put_text(out, "exray/level", kLevels[static_cast<int>(options.level)]);
    put_text(out, "exray/raw", kRaw[static_cast<int>(options.raw)]);
    put_text(out, "exray/sampling", "{" + rules.substr(std::min<std::size_t>(2, rules.size())) + "}");
    put_text(out, "exray/policy", options.policy == Policy::drop ? "drop" : "block");
    put_text(out, "exray/codec", "none");
    std::string os = options.device_os;
    std::string device = options.device_name;
    utsname system{};
    if (::uname(&system) == 0) {
      if (os.empty()) os = std::string(system.sysname) + " " + system.release + " " + system.machine;
      if (device.empty()) device = system.nodename;
    }
    const std::pair<const char*, const std::string*> known[] = {
        {"model/sha256", &options.model_sha256}, {"model/name", &options.model_name},
        {"model/input_contract", &options.input_contract}, {"device/name", &device},
        {"device/os", &os}, {"app/name", &options.app_name}, {"app/version", &options.app_version},
        {"runtime/kernels", &options.kernels}};
    for (const auto& [key, text] : known) {
      if (!text->empty()) put_text(out, key, utf8(*text));
    }
    if (options.threads > 0) put_int(out, "runtime/threads", options.threads);
    for (const auto& [key, text] : options.user) put_text(out, "user/" + utf8(key), utf8(text));
    return out;
  }

  std::string footer(int part, bool final) {
    const std::lock_guard<std::mutex> lock(mutex_);
    // The queue is empty and takes nothing any more: what is missing belongs to frames that are still open.
    if (final) {
      const std::uint64_t open = counts_.sampled - counts_.written - counts_.lost();
      if (open > 0) counts_.dropped["closed"] += open;
    }
    std::string out;
    put_text(out, "exray/kind", "footer");
    put_text(out, "exray/log_id", log_id_);
    put_int(out, "exray/part", part);
    put_int(out, "exray/final", final);
    put_int(out, "exray/time_ns", now(CLOCK_REALTIME));
    put_int(out, "exray/monotonic_ns", now(CLOCK_MONOTONIC));
    put_int(out, "count/seen", sequence_.load());
    put_count(out, "count/sampled", counts_.sampled);
    put_count(out, "count/written", counts_.written);
    for (const auto& [reason, count] : counts_.dropped) put_count(out, "count/dropped/" + reason, count);
    for (const auto& [kind, count] : counts_.problems) put_count(out, "count/problems/" + kind, count);
    put_count(out, "count/deleted_files", deletions_.deleted_files);
    put_count(out, "count/deleted_bytes", deletions_.deleted_bytes);
    put_count(out, "count/deleted_frames", deletions_.deleted_frames);
    return out;
  }

  void run() noexcept {
    EXRAY_TRY { write_all(); }
    EXRAY_CATCH {
      // Threads of the app may wait for this one.
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        closed_ = true;
        queue_.clear();
      }
      space_.notify_all();
      problem("internal", "the writer failed; nothing more is logged");
    }
  }

  void write_all() {
    LogFiles files(
        options, [this](int part) { return header(part); },
        [this](int part, bool final) { return footer(part, final); },
        [this] { problem("io", "a file of the log could not be closed in order"); }, &deletions_);
    const auto begin = [&] {
      if (files.begin()) return;
      problem("io", ("a log cannot be begun at " + options.path + ": " + std::strerror(errno)).c_str());
    };
    begin();
    Climate climate;
    auto next_climate = std::chrono::steady_clock::now();
    for (;;) {
      Record record;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        work_.wait(lock, [&] { return closed_ || !queue_.empty(); });
        if (queue_.empty()) break;
        record = std::move(queue_.front());
        queue_.pop_front();
      }
      const std::size_t memory = record.memory();
      if (std::chrono::steady_clock::now() >= next_climate) {
        next_climate = std::chrono::steady_clock::now() + std::chrono::seconds(5);  // some drivers answer slowly
        climate = Climate::read();
      }
      auto outcome = LogFiles::Outcome::failed;
      EXRAY_TRY {
        put_surroundings(record.head, climate);
        for (const auto& [name, bytes] : record.to_hash) {
          Sha256 hash;
          hash.update(bytes.data(), bytes.size());
          put_text(record.head, "raw.sha256/" + name, hash.hex());
        }
        outcome = files.write(record.head, record.body);
      }
      EXRAY_CATCH {}
      finish(files, outcome, memory, std::move(record.body));
    }
    // Also where no file could be begun before: perhaps one can now, and tells what was lost.
    begin();
    files.end(true);
  }

  // Memory of the process, battery, temperature; what the app tells goes before what the system does.
  void put_surroundings(std::string& out, const Climate& climate) const {
    char text[128];
    const ssize_t n = statm_ < 0 ? -1 : ::pread(statm_, text, sizeof(text) - 1, 0);
    if (n > 0) {
      text[n] = 0;
      const char* resident = std::strchr(text, ' ');  // the second number, in pages
      if (resident) put_int(out, "exray/rss_bytes", std::strtoll(resident, nullptr, 10) * ::sysconf(_SC_PAGESIZE));
    }
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    put_int(out, "exray/peak_rss_bytes", std::int64_t{usage.ru_maxrss} * 1024);
    float battery = battery_percent, temperature = temperature_c;
    if (std::isnan(battery)) battery = climate.battery_percent.value_or(battery);
    if (std::isnan(temperature)) temperature = climate.temperature_c.value_or(temperature);
    if (!std::isnan(battery)) put_list(out, "exray/battery_percent", kFloats, floats(&battery, 1));
    if (!std::isnan(temperature)) put_list(out, "exray/temperature_c", kFloats, floats(&temperature, 1));
  }

  void finish(const LogFiles& files, LogFiles::Outcome outcome, std::size_t memory, std::string&& body) {
    const int error = errno;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      queued_bytes_ -= memory;
      recycle(std::move(body));
      counts_.deleted_files = deletions_.deleted_files;
      counts_.deleted_bytes = deletions_.deleted_bytes;
      counts_.deleted_frames = deletions_.deleted_frames;
      if (outcome == LogFiles::Outcome::io) ++counts_.dropped["io"];
      if (outcome == LogFiles::Outcome::too_large) ++counts_.dropped["too_large"];
      if (outcome == LogFiles::Outcome::failed) ++counts_.dropped["encode"];
      if (outcome == LogFiles::Outcome::written) ++counts_.written;
    }
    space_.notify_all();
    if (outcome == LogFiles::Outcome::io) {
      tell("io", ("a frame is lost, " + files.current() + ": " + std::strerror(error)).c_str());
    } else if (outcome == LogFiles::Outcome::too_large) {
      tell("too_large", "a frame does not fit into max_bytes");
    } else if (outcome == LogFiles::Outcome::failed) {
      tell("encode", "a frame is lost: memory ran out");
    }
  }

  const pid_t process_ = ::getpid();
  std::string log_id_;
  int statm_ = -1;
  std::atomic<std::int64_t> sequence_{0}, label_{-1};
  std::atomic<bool> closed_{false};
  mutable std::mutex mutex_;
  std::mutex join_mutex_;
  std::condition_variable work_, space_;
  std::deque<Record> queue_;
  std::size_t queued_bytes_ = 0;  // with the record that is being written
  std::size_t usual_size_ = 0, spare_bytes_ = 0;
  std::vector<std::string> spare_;
  Counts counts_, deletions_;  // deletions: of the writer's thread only
  std::unordered_set<std::string> told_;
  std::thread thread_;
};

}  // namespace detail

// One frame, from its making to end(), or to the end of its scope. Of a frame that is not logged every call is cheap.
class Frame {
 public:
  // A frame that does nothing.
  Frame() = default;
  Frame(Frame&&) = default;
  Frame& operator=(Frame&& other) noexcept {
    end();
    state_ = std::move(other.state_);
    return *this;
  }
  ~Frame() { end(); }

  // Logs the frame if no rule has said so yet: what is given from now on, and with rules that see the outputs also what
  // was given before.
  void keep() noexcept {
    if (state_ && !state_->sampled_by) guarded([&] { sample("app"); });
  }

  // Whether what is given now is kept: what is costly to get need not be got otherwise.
  bool wants(Level level) const noexcept {
    return state_ && level <= state_->core->options.level && !state_->lost && (state_->sampled_by || pending());
  }

  // Whether the frame has its outputs.
  bool ran() const noexcept { return state_ && state_->ran; }

  // What the sensor gave, before preprocessing.
  void raw(const Tensor& tensor, std::string_view name = "input") noexcept {
    if (!wants(Level::outputs) || state_->core->options.raw == Raw::none) return;
    guarded([&] {
      if (state_->core->options.raw == Raw::value) {
        add("raw", detail::utf8(name), tensor);
      } else if (describe("raw", detail::utf8(name), tensor)) {
        std::string bytes(static_cast<const char*>(tensor.data), tensor.data ? tensor.bytes : 0);
        for (std::string_view element : tensor.strings) bytes += element;
        state_->record.to_hash.emplace_back(detail::utf8(name), std::move(bytes));
      }
    });
  }

  // What the model is fed; given before the run, which may overwrite it.
  void inputs(const NamedTensors& tensors) noexcept {
    if (!wants(Level::inputs) || state_->ran) return;
    guarded([&] {
      for (const auto& [name, tensor] : tensors) add("input", detail::utf8(name), tensor);
    });
  }

  // What the model answered, all of it in one call. Here the rules that see the outputs decide. Of a second run in the
  // same frame nothing is logged.
  void outputs(const NamedTensors& tensors, std::string_view runtime = "cpp") noexcept {
    if (!state_) return;
    if (state_->ran) {
      state_->repeated = true;
      state_->core->problem("run", "a second run in one frame is not logged");
      return;
    }
    guarded([&] {
      detail::Core& core = *state_->core;
      if (core.options.sampling.triggers()) {
        const char* rule = core.sampled_after_run(tensors, state_->sampled_by != nullptr);
        if (!state_->sampled_by && rule) sample(rule);
      }
      state_->ran = true;
      if (!wants(Level::outputs)) return;
      state_->runtime = detail::utf8(runtime);
      for (const auto& [name, tensor] : tensors) add("output", detail::utf8(name), tensor);
    });
    if (state_) state_->ran = true;
  }

  // What an op put out; given after outputs(), in the order of execution. The index is that of the tensor in the model.
  void layer(int index, std::string_view name, const Tensor& tensor) noexcept {
    if (!wants(Level::layers) || state_->repeated) return;
    guarded([&] { add("layer", std::to_string(index) + "/" + detail::utf8(name), tensor); });
  }

  // How long an op took; in the order of execution.
  void op(int index, std::string_view name, std::int64_t nanoseconds) noexcept {
    if (!wants(Level::layers)) return;
    guarded([&] {
      state_->op_index.push_back(index);
      state_->op_name.push_back(detail::utf8(name));
      state_->op_ns.push_back(nanoseconds);
    });
  }

  // Times a piece of the app and returns what it returns; its exceptions pass.
  template <class Function>
  decltype(auto) stage(std::string_view name, Function&& function) {
    const Stage timer(*this, name);
#if defined(__cpp_exceptions)
    try {
      return std::forward<Function>(function)();
    } catch (const std::exception& e) {
#if defined(__cpp_rtti) && defined(__GNUC__)
      int status = 0;
      char* readable = abi::__cxa_demangle(typeid(e).name(), nullptr, nullptr, &status);
      note_error(readable ? readable : "std::exception", e.what());
      std::free(readable);
#else
      note_error("std::exception", e.what());
#endif
      throw;
    }
#else
    return std::forward<Function>(function)();
#endif
  }

  // A stage that was timed elsewhere; both times in nanoseconds, the start after the frame's begin.
  void span(std::string_view name, std::int64_t start, std::int64_t duration) noexcept {
    if (!state_) return;
    guarded([&] {
      for (auto& spans : state_->spans) {
        if (spans.name != name) continue;
        spans.start.push_back(start);
        spans.duration.push_back(duration);
        return;
      }
      state_->spans.push_back({detail::utf8(name), {start}, {duration}});
    });
  }

  // The app's own: numbers, texts, and vectors of them. Booleans and integers are logged as int64, others as float32.
  template <class T>
  void user(std::string_view key, const T& value) noexcept {
    if (!state_) return;
    guarded([&] { state_->user[detail::utf8(key)] = user_value(value); });
  }

  // Says why the frame ended early; exceptions that pass a stage and end the frame's scope are told without it.
  void error(std::string_view type, std::string_view message) noexcept {
    note_error(type, message);
    if (state_) state_->failed = true;
  }

  // Counts in the log what failed without costing the frame.
  void problem(const char* kind, const char* message) noexcept {
    if (state_) state_->core->problem(kind, message);
  }

  // Ends the frame and hands it to the writer. Whatever comes afterwards is ignored.
  void end() noexcept {
    if (!state_) return;
    guarded([&] { finish(); });
    state_.reset();
  }

 private:
  friend class Monitor;

  struct Spans {
    std::string name;
    std::vector<std::int64_t> start, duration;
  };

  struct State {
    std::shared_ptr<detail::Core> core;
    std::string id, runtime, error;
    std::int64_t sequence, time_ns, monotonic_ns;
    int exceptions;
    const char* sampled_by = nullptr;
    const char* lost = nullptr;  // why the frame cannot be logged
    bool ran = false, repeated = false, failed = false, buffered = false;
    std::vector<Spans> spans;
    std::map<std::string, std::pair<detail::List, std::string>> user;
    std::vector<std::int64_t> op_index, op_ns;
    std::vector<std::string> op_name;
    std::unordered_set<std::string> tensors;
    detail::Record record;
  };

  class Stage {
   public:
    Stage(Frame& frame, std::string_view name)
        : frame_(frame), name_(name), begin_(frame.state_ ? detail::now(CLOCK_MONOTONIC) : 0) {}
    ~Stage() {
      if (!frame_.state_) return;
      frame_.span(name_, begin_ - frame_.state_->monotonic_ns, detail::now(CLOCK_MONOTONIC) - begin_);
    }
    Stage(const Stage&) = delete;
    Stage& operator=(const Stage&) = delete;

   private:
    Frame& frame_;
    std::string_view name_;
    std::int64_t begin_;
  };

  Frame(std::shared_ptr<detail::Core> core, std::string_view id) {
    state_ = std::make_unique<State>();
    state_->monotonic_ns = detail::now(CLOCK_MONOTONIC);
    state_->time_ns = detail::now(CLOCK_REALTIME);
    state_->exceptions = std::uncaught_exceptions();
    state_->sequence = core->next_sequence();
    state_->id = id.empty() ? std::to_string(state_->sequence) : detail::utf8(id);
    state_->core = std::move(core);
    if (const char* rule = state_->core->sampled_at_begin(state_->id, state_->sequence)) sample(rule);
  }

  // Whether a rule may still choose the frame.
  bool pending() const { return !state_->ran && state_->core->options.sampling.triggers(); }

  void sample(const char* rule) {
    state_->sampled_by = rule;
    state_->core->count_sampled();
  }

  // Runs what may run out of memory.
  template <class Function>
  void guarded(Function&& function) noexcept {
    EXRAY_TRY { function(); }
    EXRAY_CATCH { state_->lost = "encode"; }
  }

  void note_error(std::string_view type, std::string_view message) noexcept {
    if (!state_) return;
    guarded([&] { state_->error = detail::utf8(std::string(type).append(": ").append(message)); });
  }

  bool describe(const std::string& role, const std::string& name, const Tensor& tensor) {
    if (!tensor.valid()) state_->lost = "encode";
    if (!state_->buffered && state_->core->full()) state_->lost = "queue";
    if (state_->lost) return false;
    if (!state_->tensors.insert(role + "/" + name).second) {
      state_->core->problem("internal", "a tensor was given twice in a frame; the first is logged");
      return false;
    }
    if (!state_->buffered) state_->record.body = state_->core->buffer();
    state_->buffered = true;
    detail::put_description(state_->record.body, role, name, tensor);
    return true;
  }

  void add(const std::string& role, const std::string& name, const Tensor& tensor) {
    if (describe(role, name, tensor)) detail::put_value(state_->record.body, role + "/" + name, tensor);
  }

  template <class T>
  static std::pair<detail::List, std::string> user_value(const T& value) {
    if constexpr (std::is_integral_v<T>) {
      return {detail::kInts, detail::ints({static_cast<std::int64_t>(value)})};
    } else if constexpr (std::is_floating_point_v<T>) {
      const auto number = static_cast<float>(value);
      return {detail::kFloats, detail::floats(&number, 1)};
    } else if constexpr (std::is_convertible_v<const T&, std::string_view>) {
      return {detail::kBytes, detail::texts({detail::utf8(value)})};
    } else if constexpr (std::is_integral_v<typename T::value_type>) {
      const std::vector<std::int64_t> numbers(value.begin(), value.end());
      return {detail::kInts, detail::ints(numbers)};
    } else if constexpr (std::is_floating_point_v<typename T::value_type>) {
      const std::vector<float> numbers(value.begin(), value.end());
      return {detail::kFloats, detail::floats(numbers.data(), numbers.size())};
    } else {
      std::vector<std::string> result;
      for (const auto& text : value) result.push_back(detail::utf8(text));
      return {detail::kBytes, detail::texts(result)};
    }
  }

  void finish() {
    State& state = *state_;
    detail::Core& core = *state.core;
    const std::int64_t duration = detail::now(CLOCK_MONOTONIC) - state.monotonic_ns;
    if (core.closed()) return;
    if (state.lost || !state.sampled_by) {
      if (state.sampled_by) core.drop(state.lost);
      if (state.buffered) core.give_back(std::move(state.record.body));
      return;
    }
    std::string& out = state.record.head;
    detail::put_text(out, "exray/kind", "frame");
    detail::put_text(out, "exray/frame_id", state.id);
    detail::put_int(out, "exray/sequence", state.sequence);
    detail::put_int(out, "exray/time_ns", state.time_ns);
    detail::put_int(out, "exray/monotonic_ns", state.monotonic_ns);
    detail::put_int(out, "exray/duration_ns", duration);
    detail::put_text(out, "exray/sampled_by", state.sampled_by);
    detail::put_count(out, "exray/dropped", core.lost());
    if (!state.runtime.empty()) detail::put_text(out, "exray/runtime", state.runtime);
    if (state.failed || std::uncaught_exceptions() > state.exceptions) {
      detail::put_text(out, "exray/error", state.error.empty() ? "exception: outside of the stages" : state.error);
    }
    for (const Spans& spans : state.spans) {
      detail::put_list(out, "span_ns/" + spans.name, detail::kInts, detail::ints(spans.duration));
      detail::put_list(out, "span_start_ns/" + spans.name, detail::kInts, detail::ints(spans.start));
    }
    if (!state.op_ns.empty()) {
      detail::put_list(out, "op/index", detail::kInts, detail::ints(state.op_index));
      detail::put_list(out, "op/name", detail::kBytes, detail::texts(state.op_name));
      detail::put_list(out, "op/ns", detail::kInts, detail::ints(state.op_ns));
    }
    for (const auto& [key, value] : state.user) detail::put_list(out, "user/" + key, value.first, value.second);
    core.submit(std::move(state.record));
  }

  std::unique_ptr<State> state_;
};

// Writes one log.
class Monitor {
 public:
  explicit Monitor(Options options) noexcept {
    EXRAY_TRY {
      core_ = std::make_shared<detail::Core>(std::move(options));
      if (core_->options.level != Level::off) {
        core_->start();
        return;
      }
    }
    EXRAY_CATCH { std::fprintf(stderr, "exray: the monitor cannot start; nothing is logged\n"); }
    core_.reset();
  }
  ~Monitor() { close(); }
  Monitor(const Monitor&) = delete;
  Monitor& operator=(const Monitor&) = delete;

  // Begins a frame. Without an id it has its number in the run.
  Frame frame(std::string_view id = {}) noexcept {
    if (!core_ || core_->closed()) return Frame();
    EXRAY_TRY { return Frame(core_, id); }
    EXRAY_CATCH { core_->problem("internal", "a frame could not be begun"); }
    return Frame();
  }

  // For what the system does not tell the app itself; Android is asked by BatteryManager.
  void battery(float percent) noexcept {
    if (core_) core_->battery_percent = percent;
  }
  void temperature(float celsius) noexcept {
    if (core_) core_->temperature_c = celsius;
  }

  // Writes what waits, and the footer. Frames that are open are lost and counted. May be called twice.
  void close() noexcept {
    if (!core_) return;
    EXRAY_TRY { core_->close(); }
    EXRAY_CATCH { core_->problem("internal", "the log could not be closed"); }
  }

  Counts counts() const { return core_ ? core_->counts() : Counts(); }

 private:
  std::shared_ptr<detail::Core> core_;
};

// SHA-256 of bytes, 64 hexadecimal digits: of the .tflite, for Options::model_sha256.
inline std::string sha256(const void* data, std::size_t size) {
  detail::Sha256 hash;
  hash.update(data, size);
  return hash.hex();
}

// The same of a file; empty if it cannot be read.
inline std::string sha256_of_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {};
  detail::Sha256 hash;
  std::vector<char> block(std::size_t{1} << 16);
  ssize_t n;
  while ((n = ::read(fd, block.data(), block.size())) > 0) hash.update(block.data(), static_cast<std::size_t>(n));
  ::close(fd);
  return n < 0 ? std::string() : hash.hex();
}

}  // namespace exray

#undef EXRAY_TRY
#undef EXRAY_CATCH

#endif  // EXRAY_MONITOR_H_
