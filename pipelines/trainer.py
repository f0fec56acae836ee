"""The demo's Trainer module: a small MobileNet that tells from which photograph a tile comes."""

import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

from edge_exray.pipelines import tiles

SEED = 20
BATCH_SIZE = 64
IMAGE_SHAPE = (tiles.TILE_SIZE, tiles.TILE_SIZE, 3)

# (filters, stride) of the depthwise separable blocks after the stem.
BLOCKS = ((32, 1), (64, 2), (64, 1), (64, 1), (128, 2))


def run_fn(fn_args: FnArgs) -> None:
    """Trains for `fn_args.train_steps` batches and exports to `fn_args.serving_model_dir`; called by Trainer."""
    tf.keras.utils.set_random_seed(SEED)
    model = build_model()
    learning_rate = tf.keras.optimizers.schedules.CosineDecay(3e-3, fn_args.train_steps)
    model.compile(
        optimizer=tf.keras.optimizers.Adam(learning_rate),
        loss=tf.keras.losses.SparseCategoricalCrossentropy(),
        metrics=["accuracy"],
    )
    model.fit(
        _dataset(fn_args.train_files).shuffle(1000, seed=SEED).repeat().batch(BATCH_SIZE),
        steps_per_epoch=fn_args.train_steps,
        validation_data=_dataset(fn_args.eval_files).batch(BATCH_SIZE),
        verbose=2,
    )
    export_model(model, fn_args.serving_model_dir)


def build_model() -> tf.keras.Model:
    """Builds the network: `"image"`, float32 [batch, 32, 32, 3] in [-1, 1], to 9 probabilities; 25,129 parameters.

    Every convolution is followed by batch normalisation and ReLU6, as in MobileNet (Howard et al. 2017,
    https://arxiv.org/abs/1704.04861), so that the converted graph has the ops of a real mobile model.
    """
    layers = tf.keras.layers

    def normalised(x: tf.Tensor) -> tf.Tensor:
        # A running average over 10 instead of 100 batches: the whole training is a few hundred batches.
        return layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.9)(x))

    image = tf.keras.Input(IMAGE_SHAPE, name="image")
    x = normalised(layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(image))
    for filters, stride in BLOCKS:
        x = normalised(layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False)(x))
        x = normalised(layers.Conv2D(filters, 1, use_bias=False)(x))
    x = layers.GlobalAveragePooling2D()(x)
    return tf.keras.Model(image, layers.Dense(len(tiles.CLASSES), activation="softmax")(x))


def export_model(model: tf.keras.Model, directory: str) -> None:
    """Writes a SavedModel with two signatures, both with the output `"probabilities"`, float32 [batch, 9].

    `serving_default` takes serialized tf.Examples (`"examples"`), as TFX serving does; `serving_dense` takes the
    decoded `"image"`, because a graph that parses tf.Example cannot run on a device.

    Args:
        model: What `build_model` returned, trained.
        directory: Where the SavedModel goes.
    """

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serving_default(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        encoded = tf.io.parse_example(examples, {"image/encoded": tf.io.FixedLenFeature([], tf.string)})
        images = tf.map_fn(
            _decode, encoded["image/encoded"], fn_output_signature=tf.TensorSpec(IMAGE_SHAPE, tf.float32)
        )
        return {"probabilities": model(images, training=False)}

    @tf.function(input_signature=[tf.TensorSpec([None, *IMAGE_SHAPE], tf.float32, name="image")])
    def serving_dense(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": model(image, training=False)}

    # A plain module, not model.export(): the one way to name the inputs of several signatures that is the same
    # in all versions of Keras 3. It has to hold the model, or the variables would not be saved.
    module = tf.Module()
    module.model = model
    tf.saved_model.save(
        module, directory, signatures={"serving_default": serving_default, "serving_dense": serving_dense}
    )


def _dataset(file_patterns: list[str]) -> tf.data.Dataset:
    """Yields (image, label) of every example, in the order of the files; TFX stores examples gzipped."""
    features = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
    }

    def parse(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = tf.io.parse_single_example(serialized, features)
        return _decode(example["image/encoded"]), example["image/class/label"]

    files = sorted(file for pattern in file_patterns for file in tf.io.gfile.glob(pattern))
    return tf.data.TFRecordDataset(files, compression_type="GZIP").map(parse).cache()


def _decode(encoded: tf.Tensor) -> tf.Tensor:
    image = tf.io.decode_png(encoded, channels=3)
    return tf.ensure_shape(tf.cast(image, tf.float32) / 127.5 - 1.0, IMAGE_SHAPE)
