package edgeexray;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.zip.CRC32;

/** Which frames are logged: those that any rule says; with no rule at all, every frame. */
public final class Sampling {
    /** A rule of the app. */
    public interface Predicate {
        /** Told the outputs of a frame by name; of exceptions that it throws the log counts how many there were. */
        boolean test(Map<String, Tensor> outputs);
    }

    /** Share of the frames from 0 to 1, chosen by a hash of their ids: the same on all devices. */
    public Double rate;

    /** Chooses other ones. */
    public long seed;

    /** Every n-th frame; 0: not a rule. */
    public long every;

    /** Frames whose largest real value of the first output is below this. */
    public Double lowConfidence;

    /** Frames whose first output has its largest value elsewhere than the frame before. */
    public boolean labelChange;

    /** Frames of which it says so. */
    public Predicate predicate;

    /** Whether a rule has to see the outputs. */
    boolean hasTriggers() {
        return lowConfidence != null || labelChange || predicate != null;
    }

    /** The rule that logs a frame that has not run yet, or null. */
    String atBegin(String id, long sequence) {
        if (rate != null && hash(id, seed) < (long) Math.floor(rate * 4294967296.0)) {
            return "rate";
        }
        return every > 0 && sequence % every == 0 ? "every" : null;
    }

    /** A number below 2^32 that is as good as random. */
    static long hash(String id, long seed) {
        CRC32 crc = new CRC32();
        crc.update(ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(seed).array());
        crc.update(id.getBytes(StandardCharsets.UTF_8));
        int h = (int) crc.getValue();
        h = (h ^ (h >>> 16)) * 0x85EBCA6B;
        h = (h ^ (h >>> 13)) * 0xC2B2AE35;
        return (h ^ (h >>> 16)) & 0xFFFFFFFFL;
    }

    String toJson() {
        StringBuilder rules = new StringBuilder();
        if (rate != null) {
            rules.append(", \"rate\": ").append(rate);
            rules.append(", \"seed\": ").append(Long.toUnsignedString(seed));
        }
        if (every > 0) {
            rules.append(", \"every\": ").append(every);
        }
        if (lowConfidence != null) {
            rules.append(", \"low_confidence\": ").append(lowConfidence);
        }
        if (labelChange) {
            rules.append(", \"label_change\": true");
        }
        if (predicate != null) {
            rules.append(", \"predicate\": true");
        }
        return "{" + (rules.length() == 0 ? "" : rules.substring(2)) + "}";
    }
}
