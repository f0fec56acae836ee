package edgeexray;

import java.io.BufferedReader;
import java.io.Closeable;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileReader;
import java.io.IOException;
import java.io.InputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.security.SecureRandom;
import java.util.ArrayDeque;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;

/**
 * Writes the edge log (schemas/edge_log.md) of an app.
 *
 * <pre>
 * Options options = new Options("run.exray");
 * options.level = Level.INPUTS;
 * options.sampling.rate = 0.01;
 * try (EdgeMonitor monitor = new EdgeMonitor(options)) {
 *     for (Image image : camera) {
 *         try (Frame frame = monitor.frame()) {
 *             frame.raw(Tensor.uint8(image.pixels, 480, 640, 3));
 *             float[] x = frame.stage("preprocess", () -&gt; preprocess(image));
 *             frame.input("image", Tensor.float32(x, 1, 224, 224, 3));
 *             float[] y = frame.stage("inference", () -&gt; model.run(x));
 *             frame.output("scores", Tensor.float32(y, 1, 10));
 *         }
 *     }
 * }
 * </pre>
 *
 * <p>Nothing here throws into the app or fails it: what goes wrong is counted in the log and told to
 * {@link Options#onProblem}. A monitor may be used from any number of threads, a frame by one at a time.
 */
public final class EdgeMonitor implements Closeable {
    static final String VERSION = "0.1.0";
    private static final int MIN_CAPACITY = 1 << 12;
    private static final int MAX_SPARE = 64;

    final Options options;
    final Options.Raw raw;
    private final Object lock = new Object();
    private final Counts counts = new Counts();
    private final ArrayDeque<Record> queue = new ArrayDeque<>();
    private final ArrayDeque<Features> spare = new ArrayDeque<>();
    private final Set<String> told = new HashSet<>();
    private final String logId;
    private long queuedBytes; // with the record that is being written
    private long spareBytes;
    private int usualSize = MIN_CAPACITY;
    private int label = -1;
    private boolean isClosed;
    private float battery = Float.NaN, temperature = Float.NaN;
    private final Thread thread; // null when nothing is logged

    /** Begins a log; options are not to be changed afterwards. */
    public EdgeMonitor(Options options) {
        this.options = options;
        raw = options.raw != null ? options.raw
                : options.level == Level.OUTPUTS ? Options.Raw.HASH : Options.Raw.VALUE;
        byte[] random = new byte[16];
        new SecureRandom().nextBytes(random);
        logId = hex(random);
        Sampling sampling = options.sampling;
        if (sampling.rate == null && sampling.every <= 0 && !sampling.hasTriggers()) {
            sampling.rate = 1.0;
        }
        boolean isRate = sampling.rate == null || sampling.rate >= 0 && sampling.rate <= 1;
        if (!isRate) {
            tell("internal", "the rate is no share from 0 to 1: nothing is logged");
        }
        isClosed = options.level == Level.OFF || !isRate;
        thread = isClosed ? null : new Thread(this::run, "edge-exray monitor");
        if (thread != null) {
            start();
        }
    }

    private void start() {
        thread.setDaemon(true);
        try {
            thread.start();
        } catch (OutOfMemoryError e) {
            synchronized (lock) {
                isClosed = true;
            }
            tell("internal", "the writer cannot start, nothing is logged: " + e);
        }
    }

    /** Begins a frame whose id is its number in the run. */
    public Frame frame() {
        return frame(null);
    }

    /** Begins a frame. */
    public Frame frame(String id) {
        if (options.level == Level.OFF) {
            return Frame.OFF;
        }
        long sequence;
        synchronized (lock) {
            if (isClosed) {
                return Frame.OFF;
            }
            sequence = counts.seen++;
        }
        try {
            return new Frame(this, id == null ? Long.toString(sequence) : id, sequence);
        } catch (RuntimeException | OutOfMemoryError e) {
            problem("internal", "a frame could not be begun: " + e);
            return Frame.OFF;
        }
    }

    /** What the app knows of the battery; Android is asked by BatteryManager. */
    public void battery(float percent) {
        synchronized (lock) {
            battery = percent;
        }
    }

    /** What the app knows of the device's temperature. */
    public void temperature(float celsius) {
        synchronized (lock) {
            temperature = celsius;
        }
    }

    /** What happened so far. */
    public Counts counts() {
        synchronized (lock) {
            return counts.copy();
        }
    }

    /** Writes what waits, and the footer. Frames that are open are lost and counted. May be called twice. */
    @Override
    public void close() {
        synchronized (lock) {
            isClosed = true;
            lock.notifyAll();
        }
        boolean interrupted = false;
        while (thread != null && thread.isAlive()) {
            try {
                thread.join();
            } catch (InterruptedException e) {
                interrupted = true;
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    /** SHA-256 of a file, 64 hexadecimal digits: of the .tflite, for {@link Options#modelSha256}. */
    public static String sha256(File file) throws IOException {
        MessageDigest digest = sha256();
        try (InputStream stream = new FileInputStream(file)) {
            byte[] block = new byte[1 << 16];
            for (int n = stream.read(block); n > 0; n = stream.read(block)) {
                digest.update(block, 0, n);
            }
        }
        return hex(digest.digest());
    }

    void countSampled() {
        synchronized (lock) {
            counts.sampled++;
        }
    }

    long lost() {
        synchronized (lock) {
            return counts.lost();
        }
    }

    void drop(String reason, String message) {
        synchronized (lock) {
            if (!isClosed) {
                counts.dropped.merge(reason, 1L, Long::sum);
            }
        }
        tell(reason, message);
    }

    void problem(String kind, String message) {
        synchronized (lock) {
            counts.problems.merge(kind, 1L, Long::sum);
        }
        tell(kind, message);
    }

    /** Whether a frame would be dropped now: it need not be copied then. */
    boolean isFull() {
        synchronized (lock) {
            return options.policy == Options.Policy.DROP && queuedBytes >= options.queueBytes;
        }
    }

    /** Remembers the index of the largest output of a frame; returns that of the frame before, or -1. */
    int exchangeLabel(int next) {
        synchronized (lock) {
            int previous = label;
            label = next;
            return previous;
        }
    }

    /**
     * Memory of a frame that was written, at least of this size, or as large as the last frame: new memory costs more than
     * filling it, and is given back to the system only when the garbage collector runs.
     */
    Features buffer(int minSize) {
        int size;
        synchronized (lock) {
            size = minSize > 0 ? minSize : usualSize;
            Features best = null;
            for (Features buffer : spare) {
                if (buffer.capacity() >= size && (best == null || buffer.capacity() < best.capacity())) {
                    best = buffer;
                }
            }
            if (best != null) {
                spare.remove(best);
                spareBytes -= best.capacity();
                return best;
            }
        }
        return new Features(size, true);
    }

    void giveBack(Record record) {
        synchronized (lock) {
            giveBack(record.body);
            for (Features elements : record.toHash.values()) {
                giveBack(elements);
            }
        }
    }

    private void giveBack(Features buffer) {
        if (spare.size() < MAX_SPARE && spareBytes + buffer.capacity() <= options.queueBytes) {
            buffer.clear();
            spare.addLast(buffer);
            spareBytes += buffer.capacity();
        }
    }

    void submit(Record record) {
        long memory = record.memory();
        synchronized (lock) {
            while (!isClosed && queuedBytes > 0 && queuedBytes + memory > options.queueBytes
                    && options.policy == Options.Policy.BLOCK) {
                try {
                    lock.wait();
                } catch (InterruptedException e) {
                    // The app wants its thread back: the frame is lost, and the app finds the mark.
                    Thread.currentThread().interrupt();
                    break;
                }
            }
            if (isClosed) {
                return; // counted as such in the footer
            }
            if (queuedBytes == 0 || queuedBytes + memory <= options.queueBytes) {
                queuedBytes += memory;
                usualSize = Math.max(record.body.size(), MIN_CAPACITY); // of a frame's tensors
                queue.addLast(record);
                lock.notifyAll();
                return;
            }
        }
        giveBack(record);
        drop("queue", "frames come faster than they are written");
    }

    private void run() {
        try {
            writeAll();
        } catch (RuntimeException | OutOfMemoryError e) {
            // Threads of the app may wait for this one.
            synchronized (lock) {
                isClosed = true;
                queue.clear();
                lock.notifyAll();
            }
            problem("internal", "the writer failed, nothing more is logged: " + e);
        }
    }

    private void writeAll() {
        LogFiles files = new LogFiles(options, new LogFiles.Ends() {
            @Override
            public Features header(int part) {
                return EdgeMonitor.this.header(part);
            }

            @Override
            public Features footer(int part, boolean isFinal) {
                return EdgeMonitor.this.footer(part, isFinal);
            }

            @Override
            public void unclosed(IOException cause) {
                problem("io", "a file of the log could not be closed in order: " + cause.getMessage());
            }
        });
        begin(files);
        for (Record record = next(); record != null; record = next()) {
            write(files, record);
        }
        // Also where no file could be begun before: perhaps one can now, and tells what was lost.
        begin(files);
        files.end(true);
    }

    private void begin(LogFiles files) {
        try {
            files.begin();
        } catch (IOException e) {
            problem("io", "a log cannot be begun at " + options.file + ": " + e.getMessage());
        }
    }

    private Record next() {
        synchronized (lock) {
            while (queue.isEmpty() && !isClosed) {
                try {
                    lock.wait();
                } catch (InterruptedException e) {
                    // Nobody but close() ends this thread.
                    continue;
                }
            }
            return queue.pollFirst();
        }
    }

    private void write(LogFiles files, Record record) {
        long memory = record.memory();
        String lost = null;
        String message = null;
        try {
            surroundings(record.head);
            for (Map.Entry<String, Features> entry : record.toHash.entrySet()) {
                MessageDigest digest = sha256();
                digest.update(entry.getValue().content());
                record.head.text("raw.sha256/" + entry.getKey(), hex(digest.digest()));
            }
            files.write(record.head, record.body);
        } catch (IOException e) {
            lost = "io";
            message = "a frame is lost, " + files.current() + ": " + e.getMessage();
        } catch (LogFiles.TooLargeException e) {
            lost = "too_large";
            message = "a frame does not fit into maxBytes";
        } catch (RuntimeException | OutOfMemoryError e) {
            lost = "encode";
            message = "a frame is lost: " + e;
        }
        giveBack(record);
        synchronized (lock) {
            queuedBytes -= memory;
            counts.deletedFiles = files.deletedFiles;
            counts.deletedBytes = files.deletedBytes;
            counts.deletedFrames = files.deletedFrames;
            if (lost == null) {
                counts.written++;
            } else {
                counts.dropped.merge(lost, 1L, Long::sum);
            }
            lock.notifyAll();
        }
        if (lost != null) {
            tell(lost, message);
        }
    }

    private void surroundings(Features head) {
        try (BufferedReader status = new BufferedReader(new FileReader("/proc/self/status"))) {
            for (String line = status.readLine(); line != null; line = status.readLine()) {
                String key = line.startsWith("VmRSS:") ? "exray/rss_bytes"
                        : line.startsWith("VmHWM:") ? "exray/peak_rss_bytes" : null;
                if (key != null) {
                    head.ints(key, Long.parseLong(line.replaceAll("\\D", "")) * 1024);
                }
            }
        } catch (IOException e) {
            // Not every system tells, and the features are optional.
        }
        synchronized (lock) {
            if (!Float.isNaN(battery)) {
                head.floats("exray/battery_percent", battery);
            }
            if (!Float.isNaN(temperature)) {
                head.floats("exray/temperature_c", temperature);
            }
        }
    }

    private Features header(int part) {
        Features out = new Features(1 << 10, false);
        out.text("exray/kind", "header");
        out.ints("exray/format_version", 1);
        out.text("exray/writer", "java/" + VERSION);
        out.text("exray/log_id", logId);
        out.ints("exray/part", part);
        out.ints("exray/time_ns", Frame.wallClock());
        out.ints("exray/monotonic_ns", System.nanoTime());
        out.text("exray/clock", "System.nanoTime");
        out.text("exray/level", options.level.text());
        out.text("exray/raw", raw.name().toLowerCase(java.util.Locale.ROOT));
        out.text("exray/sampling", options.sampling.toJson());
        out.text("exray/policy", options.policy.name().toLowerCase(java.util.Locale.ROOT));
        out.text("exray/codec", "none");
        String os = options.deviceOs != null ? options.deviceOs : System.getProperty("os.name") + " "
                + System.getProperty("os.version") + " " + System.getProperty("os.arch");
        String[] known = {
            "model/sha256", options.modelSha256, "model/name", options.modelName,
            "model/input_contract", options.inputContract, "device/name", options.deviceName, "device/os", os,
            "app/name", options.appName, "app/version", options.appVersion, "runtime/kernels", options.kernels
        };
        for (int i = 0; i < known.length; i += 2) {
            if (known[i + 1] != null) {
                out.text(known[i], known[i + 1]);
            }
        }
        if (options.threads > 0) {
            out.ints("runtime/threads", options.threads);
        }
        for (Map.Entry<String, String> entry : options.user.entrySet()) {
            out.text("user/" + entry.getKey(), entry.getValue());
        }
        return out;
    }

    private Features footer(int part, boolean isFinal) {
        Features out = new Features(1 << 10, false);
        synchronized (lock) {
            // The queue is empty and takes nothing any more: what is missing belongs to frames that are still open.
            long open = counts.sampled - counts.written - counts.lost();
            if (isFinal && open > 0) {
                counts.dropped.merge("closed", open, Long::sum);
            }
            out.text("exray/kind", "footer");
            out.text("exray/log_id", logId);
            out.ints("exray/part", part);
            out.ints("exray/final", isFinal ? 1 : 0);
            out.ints("exray/time_ns", Frame.wallClock());
            out.ints("exray/monotonic_ns", System.nanoTime());
            out.ints("count/seen", counts.seen);
            out.ints("count/sampled", counts.sampled);
            out.ints("count/written", counts.written);
            for (Map.Entry<String, Long> entry : counts.dropped.entrySet()) {
                out.ints("count/dropped/" + entry.getKey(), entry.getValue());
            }
            for (Map.Entry<String, Long> entry : counts.problems.entrySet()) {
                out.ints("count/problems/" + entry.getKey(), entry.getValue());
            }
            out.ints("count/deleted_files", counts.deletedFiles);
            out.ints("count/deleted_bytes", counts.deletedBytes);
            out.ints("count/deleted_frames", counts.deletedFrames);
        }
        return out;
    }

    private void tell(String kind, String message) {
        try {
            if (options.onProblem != null) {
                options.onProblem.problem(kind, message);
                return;
            }
            synchronized (lock) {
                if (!told.add(kind)) {
                    return;
                }
            }
            System.err.println("exray (" + kind + "): " + message);
        } catch (RuntimeException e) {
            // The listener is the app's; there is nobody left to tell.
        }
    }

    private static MessageDigest sha256() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException("every Java has SHA-256", e);
        }
    }

    private static String hex(byte[] bytes) {
        StringBuilder text = new StringBuilder();
        for (byte b : bytes) {
            text.append(Character.forDigit(b >> 4 & 15, 16)).append(Character.forDigit(b & 15, 16));
        }
        return text.toString();
    }
}
