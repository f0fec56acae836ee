package edgeexray;

import java.io.Closeable;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * One frame, from {@link EdgeMonitor#frame()} to {@link #close()}; meant for a try-with-resources. Of a frame that is
 * not logged every call is cheap.
 */
public final class Frame implements Closeable {
    /** A piece of the app that returns something. */
    public interface Stage<T, E extends Exception> {
        T run() throws E;
    }

    /** A piece of the app that returns nothing. */
    public interface Step<E extends Exception> {
        void run() throws E;
    }

    static final Frame OFF = new Frame();

    private final EdgeMonitor monitor; // null when there is nothing to do, and after the end
    private final String id;
    private final long sequence, time, begin;
    private String sampledBy, lost, lostMessage, error, runtime;
    private boolean ran, repeated, ended;
    private Record record;
    private final Map<String, List<long[]>> spans = new LinkedHashMap<>();
    private final Map<String, Object> user = new LinkedHashMap<>();
    private final Set<String> tensors = new HashSet<>();
    private final List<long[]> ops = new ArrayList<>();
    private final List<String> opNames = new ArrayList<>();

    private Frame() {
        monitor = null;
        id = null;
        sequence = time = begin = 0;
        ended = true;
    }

    Frame(EdgeMonitor monitor, String id, long sequence) {
        this.monitor = monitor;
        this.id = id;
        this.sequence = sequence;
        time = wallClock();
        begin = System.nanoTime();
        String rule = monitor.options.sampling.atBegin(id, sequence);
        if (rule != null) {
            sample(rule);
        }
    }

    static long wallClock() {
        return System.currentTimeMillis() * 1_000_000;
    }

    /**
     * Logs the frame if no rule has said so yet: what is given from now on, and with rules that see the outputs also
     * what was given before.
     */
    public void keep() {
        if (!ended && sampledBy == null) {
            sample("app");
        }
    }

    /** Whether what is given now is kept: what is costly to get need not be got otherwise. */
    public boolean wants(Level level) {
        return !ended && level.compareTo(monitor.options.level) <= 0 && lost == null
                && (sampledBy != null || !ran && monitor.options.sampling.hasTriggers());
    }

    /** What the sensor gave, before preprocessing. */
    public void raw(Tensor tensor) {
        raw("input", tensor);
    }

    /** What one of several sensors gave. */
    public void raw(String name, Tensor tensor) {
        error = null;
        if (!wants(Level.OUTPUTS) || monitor.raw == Options.Raw.NONE) {
            return;
        }
        if (monitor.raw == Options.Raw.VALUE) {
            add("raw", name, tensor);
            return;
        }
        try {
            if (describe("raw", name, tensor)) {
                Features elements = monitor.buffer(tensor.bytes);
                elements.elements(tensor);
                record.toHash.put(name, elements);
            }
        } catch (RuntimeException | OutOfMemoryError e) {
            lose(e);
        }
    }

    /** What the model is fed; given before the run. */
    public void input(String name, Tensor tensor) {
        inputs(Collections.singletonMap(name, tensor));
    }

    /** What a model with several inputs is fed. */
    public void inputs(Map<String, Tensor> given) {
        error = null;
        if (wants(Level.INPUTS) && !ran) {
            for (Map.Entry<String, Tensor> entry : given.entrySet()) {
                add("input", entry.getKey(), entry.getValue());
            }
        }
    }

    /** What a model with one output answered. */
    public void output(String name, Tensor tensor) {
        outputs(Collections.singletonMap(name, tensor));
    }

    /**
     * What the model answered, all of it, in the order of its outputs. Here the rules that see the outputs decide. Of a
     * second run in the same frame nothing is logged.
     */
    public void outputs(Map<String, Tensor> given) {
        error = null;
        if (ended) {
            return;
        }
        if (ran) {
            repeated = true;
            monitor.problem("run", "a second run in one frame is not logged");
            return;
        }
        try {
            decide(given);
        } catch (RuntimeException e) {
            monitor.problem("trigger", "the rules could not be asked: " + e);
        }
        ran = true;
        if (wants(Level.OUTPUTS)) {
            runtime = "java";
            for (Map.Entry<String, Tensor> entry : given.entrySet()) {
                add("output", entry.getKey(), entry.getValue());
            }
        }
    }

    /** What an op put out, with the tensor's index in the model; after the outputs, in the order of execution. */
    public void layer(int index, String name, Tensor tensor) {
        error = null;
        if (wants(Level.LAYERS) && !repeated) {
            add("layer", index + "/" + name, tensor);
        }
    }

    /** How long an op took; in the order of execution. */
    public void op(int index, String name, long nanoseconds) {
        if (wants(Level.LAYERS)) {
            ops.add(new long[] {index, nanoseconds});
            opNames.add(name);
        }
    }

    /** Times a piece of the app and returns what it returns; its exceptions pass. */
    public <T, E extends Exception> T stage(String name, Stage<T, E> stage) throws E {
        if (ended) {
            return stage.run();
        }
        long start = System.nanoTime();
        error = null;
        boolean returned = false;
        try {
            T result = stage.run();
            returned = true;
            return result;
        } catch (Exception e) {
            // Which of the app's exceptions it is, only the compiler knows.
            error(e);
            throw e;
        } finally {
            span(name, start - begin, System.nanoTime() - start);
            if (!returned && error == null) {
                error = "java.lang.Error: in the stage " + name;
            }
        }
    }

    /** Times a piece of the app that returns nothing. */
    public <E extends Exception> void stage(String name, Step<E> step) throws E {
        this.<Void, E>stage(name, (Stage<Void, E>) () -> {
            step.run();
            return null;
        });
    }

    /** A stage that was timed elsewhere; both times in nanoseconds, the start after the frame's begin. */
    public void span(String name, long start, long duration) {
        if (ended) {
            return;
        }
        List<long[]> all = spans.get(name);
        if (all == null) {
            all = new ArrayList<>();
            spans.put(name, all);
        }
        all.add(new long[] {start, duration});
    }

    /**
     * Says why the frame ended early. Exceptions that pass a stage are told without it, unless the frame is given
     * something else afterwards.
     */
    public void error(Throwable cause) {
        error = cause.getClass().getName() + ": " + cause.getMessage();
    }

    /** The app's own numbers. */
    public void user(String key, long... values) {
        put(key, values.clone());
    }

    /** The app's own; logged as float32. */
    public void user(String key, double... values) {
        float[] floats = new float[values.length];
        for (int i = 0; i < values.length; i++) {
            floats[i] = (float) values[i];
        }
        put(key, floats);
    }

    /** The app's own; logged as 0 or 1. */
    public void user(String key, boolean value) {
        put(key, new long[] {value ? 1 : 0});
    }

    /** The app's own texts. */
    public void user(String key, String... values) {
        put(key, values.clone());
    }

    /** Ends the frame and hands it to the writer. Whatever comes afterwards is ignored. */
    @Override
    public void close() {
        if (ended) {
            return;
        }
        long duration = System.nanoTime() - begin;
        ended = true;
        try {
            finish(duration);
        } catch (RuntimeException | OutOfMemoryError e) {
            monitor.drop("encode", "a frame is lost: " + e);
        }
        record = null;
    }

    private void put(String key, Object values) {
        error = null;
        if (!ended) {
            user.put(key, values);
        }
    }

    private void sample(String rule) {
        sampledBy = rule;
        monitor.countSampled();
    }

    /** Asks the rules that see the outputs, also of a frame that is logged: the next one is compared with it. */
    private void decide(Map<String, Tensor> outputs) {
        Sampling sampling = monitor.options.sampling;
        String rule = null;
        Tensor first = outputs.isEmpty() ? null : outputs.values().iterator().next();
        boolean isReadable = first != null && first.isValid() && first.size() > 0
                && first.dtype.compareTo(DType.COMPLEX64) < 0;
        if (isReadable && (sampling.lowConfidence != null || sampling.labelChange)) {
            int label = 0;
            double largestStored = first.stored(0), largest = first.real(0);
            int size = first.size();
            for (int i = 1; i < size; i++) {
                // As NumPy has it, NaN is larger than everything.
                double stored = first.stored(i), real = first.real(i);
                if (!Double.isNaN(largestStored) && !(stored <= largestStored)) {
                    largestStored = stored;
                    label = i;
                }
                if (!Double.isNaN(largest) && !(real <= largest)) {
                    largest = real;
                }
            }
            if (sampling.lowConfidence != null && largest < sampling.lowConfidence) {
                rule = "low_confidence";
            }
            int previous = monitor.exchangeLabel(label);
            if (rule == null && sampling.labelChange && previous >= 0 && label != previous) {
                rule = "label_change";
            }
        }
        if (sampledBy == null) {
            if (rule == null && sampling.predicate != null && sampling.predicate.test(outputs)) {
                rule = "predicate";
            }
            if (rule != null) {
                sample(rule);
            }
        }
    }

    private void add(String role, String name, Tensor tensor) {
        try {
            if (describe(role, name, tensor)) {
                record.body.value(role + "/" + name, tensor);
            }
        } catch (RuntimeException | OutOfMemoryError e) {
            lose(e);
        }
    }

    private boolean describe(String role, String name, Tensor tensor) {
        if (lost != null) {
            return false;
        }
        if (!tensor.isValid()) {
            lost = "encode";
            lostMessage = "a frame is lost: the parts of the tensor " + role + "/" + name + " do not fit each other";
            return false;
        }
        if (record == null && monitor.isFull()) {
            lost = "queue";
            lostMessage = "frames come faster than they are written";
            return false;
        }
        if (!tensors.add(role + "/" + name)) {
            monitor.problem("internal", "the tensor " + role + "/" + name + " was given twice; the first is logged");
            return false;
        }
        if (record == null) {
            record = new Record(monitor.buffer(0));
        }
        record.body.description(role, name, tensor);
        return true;
    }

    private void lose(Throwable cause) {
        lost = "encode";
        lostMessage = "a frame is lost: " + cause;
    }

    private void finish(long duration) {
        if (lost != null || sampledBy == null) {
            if (sampledBy != null) {
                monitor.drop(lost, lostMessage);
            }
            if (record != null) {
                monitor.giveBack(record);
            }
            return;
        }
        if (record == null) {
            record = new Record(monitor.buffer(0));
        }
        Features out = record.head;
        out.text("exray/kind", "frame");
        out.text("exray/frame_id", id);
        out.ints("exray/sequence", sequence);
        out.ints("exray/time_ns", time);
        out.ints("exray/monotonic_ns", begin);
        out.ints("exray/duration_ns", duration);
        out.text("exray/sampled_by", sampledBy);
        out.ints("exray/dropped", monitor.lost());
        if (runtime != null) {
            out.text("exray/runtime", runtime);
        }
        if (error != null) {
            out.text("exray/error", error);
        }
        for (Map.Entry<String, List<long[]>> entry : spans.entrySet()) {
            out.ints("span_ns/" + entry.getKey(), column(entry.getValue(), 1));
            out.ints("span_start_ns/" + entry.getKey(), column(entry.getValue(), 0));
        }
        if (!ops.isEmpty()) {
            out.ints("op/index", column(ops, 0));
            out.texts("op/name", opNames.toArray(new String[0]));
            out.ints("op/ns", column(ops, 1));
        }
        for (Map.Entry<String, Object> entry : user.entrySet()) {
            String key = "user/" + entry.getKey();
            if (entry.getValue() instanceof long[]) {
                out.ints(key, (long[]) entry.getValue());
            } else if (entry.getValue() instanceof float[]) {
                out.floats(key, (float[]) entry.getValue());
            } else {
                out.texts(key, (String[]) entry.getValue());
            }
        }
        monitor.submit(record);
    }

    private static long[] column(List<long[]> rows, int index) {
        long[] values = new long[rows.size()];
        for (int i = 0; i < values.length; i++) {
            values[i] = rows.get(i)[index];
        }
        return values;
    }
}
