package edgeexray;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;

/**
 * A view of a tensor's elements in C order. They are read before the call that it is given to returns.
 *
 * <p>Java has no unsigned types: bytes of uint8 and so on are taken as they are stored.
 */
public final class Tensor {
    final DType dtype;
    final int[] shape;
    final int bytes;
    final byte[][] strings;
    private final Object values;
    float[] scale = {};
    long[] zeroPoint = {};
    int axis;

    private Tensor(DType dtype, Object values, long bytes, byte[][] strings, int[] shape) {
        this.dtype = dtype;
        this.values = values;
        this.bytes = (int) Math.min(bytes, Integer.MAX_VALUE);
        this.strings = strings;
        this.shape = shape.clone();
    }

    public static Tensor bool(boolean[] values, int... shape) {
        return new Tensor(DType.BOOL, values, values.length, null, shape);
    }

    public static Tensor int8(byte[] values, int... shape) {
        return new Tensor(DType.INT8, values, values.length, null, shape);
    }

    public static Tensor uint8(byte[] values, int... shape) {
        return new Tensor(DType.UINT8, values, values.length, null, shape);
    }

    public static Tensor int16(short[] values, int... shape) {
        return new Tensor(DType.INT16, values, 2L * values.length, null, shape);
    }

    public static Tensor int32(int[] values, int... shape) {
        return new Tensor(DType.INT32, values, 4L * values.length, null, shape);
    }

    public static Tensor int64(long[] values, int... shape) {
        return new Tensor(DType.INT64, values, 8L * values.length, null, shape);
    }

    public static Tensor float32(float[] values, int... shape) {
        return new Tensor(DType.FLOAT32, values, 4L * values.length, null, shape);
    }

    public static Tensor float64(double[] values, int... shape) {
        return new Tensor(DType.FLOAT64, values, 8L * values.length, null, shape);
    }

    /** All bytes of a buffer from its beginning to its limit, little-endian: how TensorFlow Lite hands tensors out. */
    public static Tensor of(DType dtype, ByteBuffer bytes, int... shape) {
        ByteBuffer all = bytes.duplicate();
        all.rewind();
        return new Tensor(dtype, all, all.remaining(), null, shape);
    }

    /** Texts. */
    public static Tensor strings(String[] values, int... shape) {
        byte[][] encoded = new byte[values.length][];
        for (int i = 0; i < values.length; i++) {
            encoded[i] = values[i].getBytes(StandardCharsets.UTF_8);
        }
        return strings(encoded, shape);
    }

    /** Elements of bytes. */
    public static Tensor strings(byte[][] values, int... shape) {
        long bytes = 0;
        for (byte[] value : values) {
            bytes += value.length;
        }
        return new Tensor(DType.STRING, null, bytes, values, shape);
    }

    /** Encoded data, such as a JPEG: a string of shape []. */
    public static Tensor encoded(byte[] data) {
        return strings(new byte[][] {data});
    }

    /** The same, quantised: real = scale * (stored - zeroPoint). */
    public Tensor quantized(float oneScale, long oneZeroPoint) {
        return quantized(new float[] {oneScale}, new long[] {oneZeroPoint}, 0);
    }

    /** The same, quantised along an axis: a scale and a zero point for each of its indices. */
    public Tensor quantized(float[] scales, long[] zeroPoints, int quantizedAxis) {
        Tensor result = new Tensor(dtype, values, bytes, strings, shape);
        result.scale = scales.clone();
        result.zeroPoint = zeroPoints.clone();
        result.axis = quantizedAxis;
        return result;
    }

    /** Number of elements. */
    public int size() {
        long count = 1;
        for (int n : shape) {
            count *= Math.max(n, 0);
        }
        return (int) Math.min(count, Integer.MAX_VALUE);
    }

    /** The stored value of an element; of strings and complex numbers NaN. */
    public double stored(int index) {
        if (values instanceof float[]) {
            return ((float[]) values)[index];
        }
        if (values instanceof double[]) {
            return ((double[]) values)[index];
        }
        if (values instanceof byte[]) {
            byte value = ((byte[]) values)[index];
            return dtype == DType.UINT8 ? value & 0xFF : value;
        }
        if (values instanceof short[]) {
            return ((short[]) values)[index];
        }
        if (values instanceof int[]) {
            return ((int[]) values)[index];
        }
        if (values instanceof long[]) {
            return ((long[]) values)[index];
        }
        if (values instanceof boolean[]) {
            return ((boolean[]) values)[index] ? 1 : 0;
        }
        return values == null ? Double.NaN : storedIn(((ByteBuffer) values).duplicate(), index * dtype.bytes);
    }

    private double storedIn(ByteBuffer buffer, int offset) {
        buffer.order(ByteOrder.LITTLE_ENDIAN);
        switch (dtype) {
            case BOOL:
            case UINT8:
                return buffer.get(offset) & 0xFF;
            case INT8:
                return buffer.get(offset);
            case INT16:
                return buffer.getShort(offset);
            case UINT16:
                return buffer.getShort(offset) & 0xFFFF;
            case INT32:
                return buffer.getInt(offset);
            case UINT32:
                return buffer.getInt(offset) & 0xFFFFFFFFL;
            case INT64:
                return buffer.getLong(offset);
            case UINT64: {
                long bits = buffer.getLong(offset);
                return bits >= 0 ? bits : (bits >>> 1 | bits & 1) * 2.0;
            }
            case FLOAT16:
                return half(buffer.getShort(offset));
            case BFLOAT16:
                return Float.intBitsToFloat(buffer.getShort(offset) << 16);
            case FLOAT32:
                return buffer.getFloat(offset);
            case FLOAT64:
                return buffer.getDouble(offset);
            default:
                return Double.NaN;
        }
    }

    private static double half(short bits) {
        int exponent = bits >> 10 & 31;
        int fraction = bits & 1023;
        double value;
        if (exponent == 31) {
            value = fraction > 0 ? Double.NaN : Double.POSITIVE_INFINITY;
        } else {
            double significand = fraction / 1024.0 + (exponent > 0 ? 1 : 0);
            value = Math.scalb(significand, Math.max(exponent, 1) - 15);
        }
        return bits < 0 ? -value : value;
    }

    /** The value that an element stands for: dequantised, to float32, if the tensor is quantised. */
    public double real(int index) {
        if (scale.length == 0) {
            return stored(index);
        }
        int channel = 0;
        if (scale.length > 1) {
            int stride = 1;
            for (int i = axis + 1; i < shape.length; i++) {
                stride *= shape[i];
            }
            channel = index / stride % scale.length;
        }
        return (float) ((stored(index) - zeroPoint[channel]) * scale[channel]);
    }

    /** Whether the parts fit each other. */
    boolean isValid() {
        for (int n : shape) {
            if (n < 0) {
                return false;
            }
        }
        if (scale.length != zeroPoint.length) {
            return false;
        }
        if (scale.length > 1 && (axis < 0 || axis >= shape.length || shape[axis] != scale.length)) {
            return false;
        }
        if (dtype == DType.STRING) {
            return strings != null && strings.length == size();
        }
        return bytes == (long) size() * dtype.bytes;
    }

    /** Appends the elements to a little-endian buffer that has room for them. */
    void copyTo(ByteBuffer target) {
        if (strings != null) {
            for (byte[] element : strings) {
                target.put(element);
            }
        } else if (values instanceof byte[]) {
            target.put((byte[]) values);
        } else if (values instanceof ByteBuffer) {
            target.put(((ByteBuffer) values).duplicate());
        } else if (values instanceof boolean[]) {
            for (boolean value : (boolean[]) values) {
                target.put((byte) (value ? 1 : 0));
            }
        } else {
            if (values instanceof float[]) {
                target.asFloatBuffer().put((float[]) values);
            } else if (values instanceof double[]) {
                target.asDoubleBuffer().put((double[]) values);
            } else if (values instanceof short[]) {
                target.asShortBuffer().put((short[]) values);
            } else if (values instanceof int[]) {
                target.asIntBuffer().put((int[]) values);
            } else {
                target.asLongBuffer().put((long[]) values);
            }
            target.position(target.position() + bytes);
        }
    }
}
