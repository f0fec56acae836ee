"""Tiny SavedModels and frames with known behaviour, made in a second and the same on every run."""

import os

import numpy as np

CLASSES = ("bright red", "bright blue", "dark red", "dark blue")
IMAGE_SHAPE = (16, 16, 3)


def make_frames(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Textured red and blue squares, bright and dark: reversed channels or a shifted scale change their class.

    Returns:
        Images, float32 [count, 16, 16, 3] in [-1, 1], RGB; labels, int64 [count], every class as often.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(CLASSES)
    colours = np.array([[0.8, -0.2, -0.4], [-0.4, -0.2, 0.8], [-0.1, -0.8, -0.9], [-0.9, -0.8, -0.1]])
    coarse = rng.normal(0, 0.25, (count, 4, 4, 3))
    texture = coarse.repeat(4, axis=1).repeat(4, axis=2) + rng.normal(0, 0.1, (count, *IMAGE_SHAPE))
    images = colours[labels][:, None, None, :] + texture
    return np.clip(images, -1, 1).astype(np.float32), labels.astype(np.int64)


def save_conv_net(path: str | os.PathLike[str], seed: int = 0) -> str:
    """A MobileNet in miniature that knows the classes of `make_frames`.

    conv - BN - ReLU6 - depthwise - BN - ReLU6 - pointwise - BN - ReLU6 - global average pooling - dense - softmax.
    The convolutions are random, their batch norms measured and the dense layer solved on 400 frames.

    Signatures: `serving_dense`, "image" float32 [None, 16, 16, 3] to "probabilities" float32 [None, 4];
    `serving_default`, the same for serialized tf.Examples with the feature "image".
    """
    import tensorflow as tf

    rng = np.random.default_rng(seed)

    class ConvNet(tf.Module):
        def __init__(self):
            super().__init__()
            shapes = {"conv": (3, 3, 3, 8), "depthwise": (3, 3, 8, 1), "pointwise": (1, 1, 8, 16)}
            self.kernels = {
                name: tf.Variable(rng.normal(0, np.prod(shape[:3]) ** -0.5, shape).astype(np.float32), name=name)
                for name, shape in shapes.items()
            }
            # mean, variance, offset of each batch norm; the scale is 1
            widths = {"conv": 8, "depthwise": 8, "pointwise": 16}
            self.norms = {
                name: [
                    tf.Variable(tf.zeros(width)),
                    tf.Variable(tf.ones(width)),
                    tf.Variable(rng.uniform(0.5, 1.5, width).astype(np.float32)),
                ]
                for name, width in widths.items()
            }
            self.dense = tf.Variable(tf.zeros((16, 4)))
            self.bias = tf.Variable(tf.zeros(4))

        def _block(self, name, x, convolve):
            with tf.name_scope(name):
                x = convolve(x, self.kernels[name])
                mean, variance, offset = self.norms[name]
                if measuring:
                    mean.assign(tf.reduce_mean(x, (0, 1, 2)))
                    variance.assign(tf.math.reduce_variance(x, (0, 1, 2)))
                x, _, _ = tf.compat.v1.nn.fused_batch_norm(
                    x, tf.ones_like(offset), offset, mean, variance, epsilon=1e-3, is_training=False
                )
                return tf.nn.relu6(x)

        def features(self, x):
            x = self._block("conv", x, lambda x, k: tf.nn.conv2d(x, k, 2, "SAME"))
            x = self._block("depthwise", x, lambda x, k: tf.nn.depthwise_conv2d(x, k, [1, 1, 1, 1], "SAME"))
            x = self._block("pointwise", x, lambda x, k: tf.nn.conv2d(x, k, 1, "SAME"))
            return tf.reduce_mean(x, (1, 2))

        @tf.function(input_signature=[tf.TensorSpec([None, *IMAGE_SHAPE], tf.float32, name="image")])
        def serving_dense(self, image):
            logits = tf.matmul(self.features(image), self.dense) + self.bias
            return {"probabilities": tf.nn.softmax(logits)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
        def serving_default(self, examples):
            parsed = tf.io.parse_example(examples, {"image": tf.io.FixedLenFeature(IMAGE_SHAPE, tf.float32)})
            return self.serving_dense(parsed["image"])

    net = ConvNet()
    images, labels = make_frames(400, seed=seed + 1)
    measuring = True
    features = net.features(tf.constant(images)).numpy()
    measuring = False
    targets = 8 * np.eye(len(CLASSES))[labels]
    solved, *_ = np.linalg.lstsq(np.c_[features, np.ones(len(features))], targets, rcond=None)
    net.dense.assign(solved[:-1])
    net.bias.assign(solved[-1])
    return _save(net, path, serving_dense=net.serving_dense, serving_default=net.serving_default)


TABLE_MEAN, TABLE_SPREAD = np.array([700.0, 0.5, 1.0, 3.0], np.float32), np.array([200.0, 0.15, 0.3, 1.0], np.float32)
TABLE_INPUTS = ("grams", "share", "ratio", "score")


def make_rows(count: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Rows of a table whose columns differ in their ranges: `TABLE_INPUTS`, float32 [1] each."""
    rng = np.random.default_rng(seed)
    rows = (rng.gamma(4.0, 0.5, (count, len(TABLE_INPUTS))) - 2) * TABLE_SPREAD + TABLE_MEAN
    return [
        {name: np.array([value], np.float32) for name, value in zip(TABLE_INPUTS, row, strict=True)} for row in rows
    ]


def save_table_net(path: str | os.PathLike[str]) -> str:
    """A net over the columns of a table, which are joined first and normalised then.

    Signatures `serve` and `serving_default`, one function under two names as Keras 3 exports it: `TABLE_INPUTS` float32
    [None, 1] each to "classes" float32 [None, 3].
    """
    import tensorflow as tf

    rng = np.random.default_rng(0)

    class TableNet(tf.Module):
        def __init__(self):
            super().__init__()
            self.weights = tf.Variable(rng.normal(size=(len(TABLE_INPUTS), 3)).astype(np.float32) * 2)

        @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, name=name) for name in TABLE_INPUTS])
        def serve(self, grams, share, ratio, score):
            row = (tf.concat([grams, share, ratio, score], -1) - TABLE_MEAN) / TABLE_SPREAD
            return {"classes": tf.nn.softmax(tf.matmul(row, self.weights))}

    net = TableNet()
    return _save(net, path, serve=net.serve, serving_default=net.serve)


def save_wide_net(path: str | os.PathLike[str]) -> str:
    """Another network with the interface of `save_conv_net`: other ops, names and sizes.

    Signature `wide`, "image" float32 [None, 16, 16, 3] to "probabilities" float32 [None, 4].
    """
    import tensorflow as tf

    rng = np.random.default_rng(0)

    class WideNet(tf.Module):
        def __init__(self):
            super().__init__()
            self.wide = tf.Variable(rng.normal(0, 0.05, (768, 50)).astype(np.float32))
            self.narrow = tf.Variable(rng.normal(0, 0.5, (50, 4)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec([None, *IMAGE_SHAPE], tf.float32, name="image")])
        def wide_net(self, image):
            hidden = tf.tanh(tf.matmul(tf.reshape(image, (-1, 768)), self.wide), name="hidden")
            return {"probabilities": tf.nn.softmax(tf.matmul(hidden, self.narrow))}

    net = WideNet()
    return _save(net, path, wide=net.wide_net)


def save_dense_net(path: str | os.PathLike[str], *, factor: float = 1.0) -> str:
    """Three dense layers, each with a multiple of 32 inputs, in the name scopes `up`, `down` and `head`.

    Signature `dense`, "x" float32 [None, 64] to "y" float32 [None, 32].

    Args:
        path: Where to save it.
        factor: How many times as large as the others the first of the 96 values between `up` and `down` is. `down`
            takes it back: the network computes the same.
    """
    import tensorflow as tf

    rng = np.random.default_rng(0)

    class DenseNet(tf.Module):
        def __init__(self):
            super().__init__()
            shapes = {"up": (64, 96), "down": (96, 64), "head": (64, 32)}
            weights = {name: rng.normal(0, shape[0] ** -0.5, shape) for name, shape in shapes.items()}
            weights["up"][:, 0] *= factor
            weights["down"][0] /= factor
            self.weights = {name: tf.Variable(value.astype(np.float32)) for name, value in weights.items()}

        @tf.function(input_signature=[tf.TensorSpec([None, 64], tf.float32, name="x")])
        def dense_net(self, x):
            for name, kernel in self.weights.items():
                with tf.name_scope(name):
                    x = tf.matmul(x, kernel)
                    x = x if name == "head" else tf.nn.relu(x)
            return {"y": x}

    net = DenseNet()
    return _save(net, path, dense=net.dense_net)


def save_two_input_net(path: str | os.PathLike[str]) -> str:
    """Several inputs and outputs of several types, whose names do not sort like the graph uses them.

    Signature `dense`: "zebra" float32 [None, 5], "apple" float32 [None, 4], "ids" int32 [None, 1] to
    "z" float32 [None, 3], "a" int64 [None], "m" float32 [None, 3].
    """
    import tensorflow as tf

    rng = np.random.default_rng(0)

    class TwoInputNet(tf.Module):
        def __init__(self):
            super().__init__()
            self.from_apple = tf.Variable(rng.normal(size=(4, 3)).astype(np.float32))
            self.from_zebra = tf.Variable(rng.normal(size=(5, 3)).astype(np.float32))

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, 5], tf.float32, name="zebra"),
                tf.TensorSpec([None, 4], tf.float32, name="apple"),
                tf.TensorSpec([None, 1], tf.int32, name="ids"),
            ]
        )
        def dense(self, zebra, apple, ids):
            first = tf.matmul(apple, self.from_apple)
            second = tf.matmul(zebra, self.from_zebra) + tf.gather(self.from_apple, ids[:, 0])
            return {"z": tf.nn.relu(first + second), "a": tf.argmax(first, -1), "m": first * second}

    net = TwoInputNet()
    return _save(net, path, dense=net.dense)


def save_recurrent_net(path: str | os.PathLike[str]) -> str:
    """A loop that stays one op when it is converted.

    Signature `dense`, "x" float32 [1, 4] to "y" float32 [1, 4]: three steps of x = tanh(x W + b).
    """
    import tensorflow as tf

    rng = np.random.default_rng(0)

    class RecurrentNet(tf.Module):
        def __init__(self):
            super().__init__()
            self.recurrent = tf.Variable(rng.normal(size=(4, 4)).astype(np.float32))
            self.bias = tf.Variable(rng.normal(size=4).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec([1, 4], tf.float32, name="x")])
        def dense(self, x):
            def step(i, x):
                return i + 1, tf.tanh(tf.matmul(x, self.recurrent) + self.bias)

            return {"y": tf.while_loop(lambda i, x: i < 3, step, (0, x))[1]}

    net = RecurrentNet()
    return _save(net, path, dense=net.dense)


def save_lstm_net(path: str | os.PathLike[str]) -> str:
    """An LSTM of Keras 2, which the converter fuses into one op whose state lives in the .tflite.

    Signature `dense`, "x" float32 [1, 6, 3] to "y" float32 [1, 3].
    """
    import tensorflow as tf
    import tf_keras

    tf_keras.utils.set_random_seed(0)
    layers = tf_keras.layers
    # Wide enough for the int8 kernel, whose rescaling fails on tiny outputs.
    wide = tf_keras.initializers.RandomNormal(stddev=1.0, seed=1)
    model = tf_keras.Sequential(
        [
            layers.Input((6, 3), batch_size=1),
            layers.LSTM(4, kernel_initializer=wide),
            layers.Dense(3, activation="softmax"),
        ]
    )

    # AutoGraph would rewrite all of Keras, and a module with the model itself would trace its functions again.
    @tf.function(input_signature=[tf.TensorSpec([1, 6, 3], tf.float32, name="x")], autograph=False)
    def dense(x):
        return {"y": model(x, training=False)}

    module = tf.Module()
    module.weights = model.weights
    return _save(module, path, dense=dense)


def save_sequence_net(path: str | os.PathLike[str]) -> str:
    """A recurrent layer over a batch of any size, which keeps its steps in a list as those of Keras do.

    Signature `dense`, "x" float32 [None, 5, 4] to "y" float32 [None, 5, 3]: y_t = tanh(x_t W + y_(t-1) R).
    """
    import tensorflow as tf

    rng = np.random.default_rng(0)

    class SequenceNet(tf.Module):
        def __init__(self):
            super().__init__()
            self.kernel = tf.Variable(rng.normal(size=(4, 3)).astype(np.float32))
            self.recurrent = tf.Variable(rng.normal(size=(3, 3)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec([None, 5, 4], tf.float32, name="x")])
        def dense(self, x):
            steps = tf.transpose(x, (1, 0, 2))
            rows = tf.TensorArray(tf.float32, 5, element_shape=(None, 4)).unstack(steps)

            def step(t, state, made):
                state = tf.tanh(tf.matmul(rows.read(t), self.kernel) + tf.matmul(state, self.recurrent))
                return t + 1, state, made.write(t, state)

            made = tf.TensorArray(tf.float32, 5, element_shape=(None, 3))
            start = (0, tf.zeros((tf.shape(x)[0], 3)), made)
            _, _, made = tf.while_loop(lambda t, *_: t < 5, step, start)
            return {"y": tf.transpose(made.stack(), (1, 0, 2))}

    net = SequenceNet()
    return _save(net, path, dense=net.dense)


def save_parsing_net(path: str | os.PathLike[str], *, defect: str | None = None) -> str:
    """A net whose only signature parses serialized tf.Examples with the features "wide", "narrow" and "unused".

    Signature `serving_default`, "examples" string [None] to "sum" and "product" float32 [None, 3].

    Args:
        path: Where it goes.
        defect: What keeps a device from entering it behind the parsing: `"string"` (a feature is text that is hashed),
            `"sparse"` (a feature has no fixed length), `"size"` (it also counts the serialized examples) or `"table"`
            (text is looked up in a table).
    """
    import tensorflow as tf

    rng = np.random.default_rng(0)

    class ParsingNet(tf.Module):
        def __init__(self):
            super().__init__()
            self.wide = tf.Variable(rng.normal(size=(5, 3)).astype(np.float32))
            self.narrow = tf.Variable(rng.normal(size=(2, 3)).astype(np.float32))
            words = tf.lookup.KeyValueTensorInitializer(["a", "b"], [0.0, 1.0])
            self.table = tf.lookup.StaticHashTable(words, -1.0) if defect == "table" else None

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
        def serving_default(self, examples):
            features = {
                "wide": tf.io.FixedLenFeature([5], tf.float32),
                "narrow": tf.io.FixedLenFeature([2], tf.float32),
                "unused": tf.io.FixedLenFeature([1], tf.int64, default_value=[0]),
                "text": tf.io.FixedLenFeature([1], tf.string, default_value=[""]),
                "many": tf.io.VarLenFeature(tf.float32),
            }
            parsed = tf.io.parse_example(examples, features)
            left, right = parsed["wide"] @ self.wide, parsed["narrow"] @ self.narrow
            if defect == "string":
                left += tf.cast(tf.strings.to_hash_bucket_fast(parsed["text"], 7), tf.float32)
            elif defect == "sparse":
                left += tf.reduce_sum(tf.sparse.to_dense(parsed["many"]))
            elif defect == "size":
                left += tf.cast(tf.size(examples), tf.float32)
            elif defect == "table":
                left += self.table.lookup(parsed["text"])
            return {"sum": left + right, "product": left * right}

    net = ParsingNet()
    return _save(net, path, serving_default=net.serving_default)


def save_difference_net(path: str | os.PathLike[str], *, symmetric: bool = False) -> str:
    """Inputs and outputs that only values tell apart.

    Signature `dense`: "plus" and "minus" float32 [None, 6] to "large" and "small" float32 [None, 6], which are 3 plus -
    minus and tanh(plus - 3 minus); symmetric ones are both plus + minus.
    """
    import tensorflow as tf

    class DifferenceNet(tf.Module):
        @tf.function(
            input_signature=[
                tf.TensorSpec([None, 6], tf.float32, name="plus"),
                tf.TensorSpec([None, 6], tf.float32, name="minus"),
            ]
        )
        def dense(self, plus, minus):
            if symmetric:
                return {"large": plus + minus, "small": tf.maximum(plus + minus, minus + plus)}
            return {"large": 3 * plus - minus, "small": tf.tanh(plus - 3 * minus)}

    net = DifferenceNet()
    return _save(net, path, dense=net.dense)


def save_two_signatures_net(path: str | os.PathLike[str]) -> str:
    """Signatures `double` and `triple`, both "x" float32 [None, 2] to "y": twice x, and by a loop 3 times x and 1."""
    import tensorflow as tf

    spec = tf.TensorSpec([None, 2], tf.float32, name="x")

    class TwoSignaturesNet(tf.Module):
        @tf.function(input_signature=[spec])
        def double(self, x):
            return {"y": x * 2}

        @tf.function(input_signature=[spec])
        def triple(self, x):
            _, total = tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y + x), (0, tf.zeros_like(x)))
            return {"y": total + 1}

    net = TwoSignaturesNet()
    return _save(net, path, double=net.double, triple=net.triple)


def save_lowercase_net(path: str | os.PathLike[str]) -> str:
    """Signature `dense`, "text" string [None] to "lower": an op that TFLite does not have."""
    import tensorflow as tf

    class LowercaseNet(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
        def dense(self, text):
            return {"lower": tf.strings.lower(text)}

    net = LowercaseNet()
    return _save(net, path, dense=net.dense)


def save_counting_net(path: str | os.PathLike[str]) -> str:
    """Signature `dense`, "x" float32 [None, 2] to "y" [None, 2]: counts its calls in a variable and adds the count."""
    import tensorflow as tf

    class CountingNet(tf.Module):
        def __init__(self):
            super().__init__()
            self.calls = tf.Variable(0.0)

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
        def dense(self, x):
            return {"y": x + self.calls.assign_add(1.0)}

    net = CountingNet()
    return _save(net, path, dense=net.dense)


def _save(module, path: str | os.PathLike[str], **signatures) -> str:
    import tensorflow as tf

    tf.saved_model.save(module, os.fspath(path), signatures=signatures)
    return os.fspath(path)
