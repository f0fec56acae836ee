package edgeexray;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;

/** Features of a tf.Example as they are on the wire, in a buffer that grows. */
final class Features {
    private static final int BYTES = 1, FLOATS = 2, INTS = 3;

    private ByteBuffer buffer;

    /** With memory outside of the Java heap, which goes to a file without another copy, or in it. */
    Features(int capacity, boolean direct) {
        buffer = allocate(capacity, direct);
    }

    int size() {
        return buffer.position();
    }

    int capacity() {
        return buffer.capacity();
    }

    void clear() {
        buffer.clear();
    }

    int crc(int crc) {
        return Crc32c.update(crc, buffer, size());
    }

    /** What was put in, ready to be read. */
    ByteBuffer content() {
        ByteBuffer content = buffer.duplicate();
        content.flip();
        return content;
    }

    void text(String key, String text) {
        bytes(key, text.getBytes(StandardCharsets.UTF_8));
    }

    void bytes(String key, byte[]... values) {
        long size = 0;
        for (byte[] value : values) {
            size += fieldSize(value.length);
        }
        head(key, BYTES, size);
        for (byte[] value : values) {
            field(1, value.length);
            buffer.put(value);
        }
    }

    void texts(String key, String... texts) {
        byte[][] values = new byte[texts.length][];
        for (int i = 0; i < texts.length; i++) {
            values[i] = texts[i].getBytes(StandardCharsets.UTF_8);
        }
        bytes(key, values);
    }

    void ints(String key, long... values) {
        long size = 0;
        for (long value : values) {
            size += varintSize(value);
        }
        head(key, INTS, fieldSize(size));
        field(1, size);
        for (long value : values) {
            varint(value);
        }
    }

    void floats(String key, float... values) {
        long size = 4L * values.length;
        head(key, FLOATS, fieldSize(size));
        field(1, size);
        for (float value : values) {
            buffer.putFloat(value);
        }
    }

    /** The features of a tensor but its value. */
    void description(String role, String name, Tensor tensor) {
        text(role + ".dtype/" + name, tensor.dtype.text);
        long[] shape = new long[tensor.shape.length];
        for (int i = 0; i < shape.length; i++) {
            shape[i] = tensor.shape[i];
        }
        ints(role + ".shape/" + name, shape);
        if (tensor.scale.length > 0) {
            floats(role + ".scale/" + name, tensor.scale);
            ints(role + ".zero_point/" + name, tensor.zeroPoint);
            if (tensor.scale.length > 1) {
                ints(role + ".axis/" + name, tensor.axis);
            }
        }
    }

    void value(String key, Tensor tensor) {
        if (tensor.dtype == DType.STRING) {
            bytes(key, tensor.strings);
            return;
        }
        head(key, BYTES, fieldSize(tensor.bytes));
        field(1, tensor.bytes);
        tensor.copyTo(buffer);
    }

    /** The elements alone. */
    void elements(Tensor tensor) {
        reserve(tensor.bytes);
        tensor.copyTo(buffer);
    }

    /** Everything of a feature before the content of its list, for which room is made. */
    private void head(String key, int list, long size) {
        byte[] name = key.getBytes(StandardCharsets.UTF_8);
        long feature = fieldSize(size);
        long entry = fieldSize(name.length) + fieldSize(feature);
        reserve(fieldSize(entry));
        field(1, entry);
        field(1, name.length);
        buffer.put(name);
        field(2, feature);
        field(list, size);
    }

    private void reserve(long more) {
        long needed = size() + more;
        if (needed <= buffer.capacity()) {
            return;
        }
        if (needed > Integer.MAX_VALUE) {
            throw new OutOfMemoryError("a frame is larger than a record can be");
        }
        ByteBuffer larger = allocate((int) Math.min(Math.max(needed, 2L * buffer.capacity()), Integer.MAX_VALUE),
                buffer.isDirect());
        larger.put(content());
        buffer = larger;
    }

    private static ByteBuffer allocate(int capacity, boolean direct) {
        ByteBuffer buffer = direct ? ByteBuffer.allocateDirect(capacity) : ByteBuffer.allocate(capacity);
        return buffer.order(ByteOrder.LITTLE_ENDIAN);
    }

    private void field(int number, long size) {
        buffer.put((byte) (number << 3 | 2));
        varint(size);
    }

    private void varint(long value) {
        for (; (value & ~0x7FL) != 0; value >>>= 7) {
            buffer.put((byte) (value | 0x80));
        }
        buffer.put((byte) value);
    }

    private static int varintSize(long value) {
        return value == 0 ? 1 : (63 - Long.numberOfLeadingZeros(value)) / 7 + 1;
    }

    static long fieldSize(long content) {
        return 1 + varintSize(content) + content;
    }

    /** Tag and length of the features in an Example. */
    static ByteBuffer exampleHead(long size) {
        Features head = new Features(16, false);
        head.field(1, size);
        return head.content().order(ByteOrder.LITTLE_ENDIAN);
    }
}
