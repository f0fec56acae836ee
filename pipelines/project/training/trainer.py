"""The model: what Trainer trains and exports."""

import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

SHAPE = (32, 32, 3)
CLASSES = 9
BATCH_SIZE = 64
SEED = 7


def run_fn(fn_args: FnArgs) -> None:
    """Trains for `fn_args.train_steps` batches and exports to `fn_args.serving_model_dir`; called by Trainer."""
    tf.keras.utils.set_random_seed(SEED)
    model = build_model()
    adam = tf.keras.optimizers.Adam(tf.keras.optimizers.schedules.CosineDecay(5e-3, fn_args.train_steps))
    model.compile(adam, "sparse_categorical_crossentropy", metrics=["accuracy"])
    training = read(fn_args.train_files).shuffle(1000, seed=SEED).repeat().batch(BATCH_SIZE)
    evaluation = read(fn_args.eval_files).batch(BATCH_SIZE)
    model.fit(training, steps_per_epoch=fn_args.train_steps, validation_data=evaluation, verbose=2)

    # A device cannot parse tf.Examples: the signature takes the image itself.
    @tf.function(input_signature=[tf.TensorSpec([None, *SHAPE], tf.float32, name="image")])
    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": model(image, training=False)}

    module = tf.Module()
    module.model = model
    tf.saved_model.save(module, fn_args.serving_model_dir, signatures={"serving_default": serve})


def build_model() -> tf.keras.Model:
    """Builds the network: RGB in [-1, 1], float32 [batch, 32, 32, 3], to a probability for each class."""
    layers = tf.keras.layers
    model = tf.keras.Sequential([tf.keras.Input(SHAPE)])
    for filters in (16, 32, 64):
        model.add(layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False))
        model.add(layers.BatchNormalization(momentum=0.9))
        model.add(layers.ReLU(6.0))
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(CLASSES, activation="softmax"))
    return model


def read(patterns: list[str]) -> tf.data.Dataset:
    """Reads (image, label) of every example; TFX stores examples gzipped."""
    files = sorted(file for pattern in patterns for file in tf.io.gfile.glob(pattern))
    return tf.data.TFRecordDataset(files, compression_type="GZIP").map(parse).cache()


def parse(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes one example."""
    features = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
    }
    example = tf.io.parse_single_example(serialized, features)
    image = tf.cast(tf.io.decode_png(example["image/encoded"], channels=3), tf.float32) / 127.5 - 1.0
    return tf.ensure_shape(image, SHAPE), example["image/class/label"]
