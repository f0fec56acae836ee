"""SavedModel to .tflite: the modes, the calibration data, and the child process that converts."""
