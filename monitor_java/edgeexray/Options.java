package edgeexray;

import java.io.File;
import java.util.LinkedHashMap;
import java.util.Map;

/** What a monitor logs, and where to. */
public final class Options {
    /** What is logged of raw data. */
    public enum Raw {
        NONE,
        HASH,
        VALUE
    }

    /** What happens to a frame when the queue is full: it is dropped and counted, or the app waits. */
    public enum Policy {
        DROP,
        BLOCK
    }

    /** Told of problems. */
    public interface ProblemListener {
        /** Called from any thread. */
        void problem(String kind, String message);
    }

    /** The log's first file. */
    public final File file;

    public Level level = Level.OUTPUTS;
    public Sampling sampling = new Sampling();

    /** Null: the hash at level OUTPUTS, the value above. */
    public Raw raw;

    public Policy policy = Policy.DROP;

    /** Memory of frames that wait to be written; a larger one waits alone. */
    public long queueBytes = 1L << 27;

    /** Size of all files of the log, the oldest are deleted; 0: no limit. */
    public long maxBytes = 1L << 30;

    /** Size of a file before the next is begun; 0: an eighth of maxBytes. */
    public long fileBytes;

    /** Sync every record to the disk, not only a file at its end. */
    public boolean sync;

    /** SHA-256 of the .tflite, 64 hexadecimal digits, see {@link EdgeMonitor#sha256}. */
    public String modelSha256;

    /** What else the log says of its origin; null is left out. */
    public String modelName;

    public String inputContract;
    public String deviceName;
    public String deviceOs;
    public String appName;
    public String appVersion;
    public String kernels;
    public int threads;
    public final Map<String, String> user = new LinkedHashMap<>();

    /** Without it, the first problem of each kind goes to System.err. */
    public ProblemListener onProblem;

    public Options(File file) {
        this.file = file;
    }

    public Options(String file) {
        this(new File(file));
    }
}
