"""EdgeConverter: the Trainer's model as the .tflite that the device runs."""
