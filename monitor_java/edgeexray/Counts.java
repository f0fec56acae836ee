package edgeexray;

import java.util.Map;
import java.util.TreeMap;

/** Of the run up to now, as in a footer. */
public final class Counts {
    public long seen;
    public long sampled;
    public long written;
    public final Map<String, Long> dropped = new TreeMap<>();
    public final Map<String, Long> problems = new TreeMap<>();
    public long deletedFiles;
    public long deletedBytes;
    public long deletedFrames;

    /** Frames that were to be logged and are not. */
    public long lost() {
        long sum = 0;
        for (long count : dropped.values()) {
            sum += count;
        }
        return sum;
    }

    Counts copy() {
        Counts result = new Counts();
        result.seen = seen;
        result.sampled = sampled;
        result.written = written;
        result.dropped.putAll(dropped);
        result.problems.putAll(problems);
        result.deletedFiles = deletedFiles;
        result.deletedBytes = deletedBytes;
        result.deletedFrames = deletedFrames;
        return result;
    }
}
