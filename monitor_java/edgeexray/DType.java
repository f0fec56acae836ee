package edgeexray;

/** Types of elements, by their names in a log. */
public enum DType {
    BOOL("bool", 1),
    INT8("int8", 1),
    UINT8("uint8", 1),
    INT16("int16", 2),
    UINT16("uint16", 2),
    INT32("int32", 4),
    UINT32("uint32", 4),
    INT64("int64", 8),
    UINT64("uint64", 8),
    FLOAT16("float16", 2),
    BFLOAT16("bfloat16", 2),
    FLOAT32("float32", 4),
    FLOAT64("float64", 8),
    COMPLEX64("complex64", 8),
    COMPLEX128("complex128", 16),
    STRING("string", 0);

    final String text;
    final int bytes;

    DType(String text, int bytes) {
        this.text = text;
        this.bytes = bytes;
    }
}
