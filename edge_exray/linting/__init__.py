"""Static checks of a .tflite: what its file alone tells about why it will be wrong or slow."""
