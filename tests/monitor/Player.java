import edgeexray.DType;
import edgeexray.EdgeMonitor;
import edgeexray.Frame;
import edgeexray.Level;
import edgeexray.Options;
import edgeexray.Tensor;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Plays the scripts of log_script.py: an app that logs given frames with the Java monitor. */
public final class Player {
    private static final class FrameScript {
        String id;
        boolean keep, fails;
        Map<String, Tensor> raw, inputs, outputs, layers;
        int[] layerIndices;
        final Map<String, long[]> ints = new LinkedHashMap<>();
        final Map<String, double[]> floats = new LinkedHashMap<>();
        final Map<String, String[]> texts = new LinkedHashMap<>();
        final Map<String, long[]> ops = new LinkedHashMap<>();
    }

    private final ByteBuffer script;

    private Player(ByteBuffer script) {
        this.script = script.order(ByteOrder.LITTLE_ENDIAN);
    }

    private byte[] bytes() {
        byte[] value = new byte[script.getInt()];
        script.get(value);
        return value;
    }

    private String text() {
        return new String(bytes(), StandardCharsets.UTF_8);
    }

    private long[] longs() {
        long[] values = new long[script.getInt()];
        for (int i = 0; i < values.length; i++) {
            values[i] = script.getLong();
        }
        return values;
    }

    private float[] floats() {
        float[] values = new float[script.getInt()];
        for (int i = 0; i < values.length; i++) {
            values[i] = script.getFloat();
        }
        return values;
    }

    private int[] ints() {
        int[] values = new int[script.getInt()];
        for (int i = 0; i < values.length; i++) {
            values[i] = script.getInt();
        }
        return values;
    }

    private Map<String, Tensor> tensors() {
        Map<String, Tensor> tensors = new LinkedHashMap<>();
        for (int n = script.getInt(); n > 0; n--) {
            String name = text();
            DType dtype = DType.valueOf(text().toUpperCase(java.util.Locale.ROOT));
            long[] longShape = longs();
            int[] shape = new int[longShape.length];
            for (int i = 0; i < shape.length; i++) {
                shape[i] = (int) longShape[i];
            }
            float[] scale = floats();
            long[] zeroPoint = longs();
            int axis = script.getInt();
            Tensor tensor = value(dtype, shape);
            tensors.put(name, scale.length > 0 ? tensor.quantized(scale, zeroPoint, axis) : tensor);
        }
        return tensors;
    }

    /** By the factory of the type's own array where Java has one. */
    private Tensor value(DType dtype, int[] shape) {
        if (dtype == DType.STRING) {
            byte[][] elements = new byte[script.getInt()][];
            for (int i = 0; i < elements.length; i++) {
                elements[i] = bytes();
            }
            return Tensor.strings(elements, shape);
        }
        byte[] bytes = bytes();
        ByteBuffer buffer = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
        switch (dtype) {
            case BOOL: {
                boolean[] values = new boolean[bytes.length];
                for (int i = 0; i < values.length; i++) {
                    values[i] = bytes[i] != 0;
                }
                return Tensor.bool(values, shape);
            }
            case INT8:
                return Tensor.int8(bytes, shape);
            case UINT8:
                return Tensor.uint8(bytes, shape);
            case INT16: {
                short[] values = new short[bytes.length / 2];
                buffer.asShortBuffer().get(values);
                return Tensor.int16(values, shape);
            }
            case INT32: {
                int[] values = new int[bytes.length / 4];
                buffer.asIntBuffer().get(values);
                return Tensor.int32(values, shape);
            }
            case INT64: {
                long[] values = new long[bytes.length / 8];
                buffer.asLongBuffer().get(values);
                return Tensor.int64(values, shape);
            }
            case FLOAT32: {
                float[] values = new float[bytes.length / 4];
                buffer.asFloatBuffer().get(values);
                return Tensor.float32(values, shape);
            }
            case FLOAT64: {
                double[] values = new double[bytes.length / 8];
                buffer.asDoubleBuffer().get(values);
                return Tensor.float64(values, shape);
            }
            default:
                return Tensor.of(dtype, buffer, shape);
        }
    }

    private FrameScript frame() {
        FrameScript frame = new FrameScript();
        frame.id = text();
        frame.keep = script.get() != 0;
        frame.fails = script.get() != 0;
        frame.raw = tensors();
        frame.inputs = tensors();
        frame.outputs = tensors();
        frame.layers = tensors();
        frame.layerIndices = ints();
        for (int n = script.getInt(); n > 0; n--) {
            frame.ints.put(text(), longs());
        }
        for (int n = script.getInt(); n > 0; n--) {
            String key = text();
            float[] values = floats();
            double[] doubles = new double[values.length];
            for (int i = 0; i < values.length; i++) {
                doubles[i] = values[i];
            }
            frame.floats.put(key, doubles);
        }
        for (int n = script.getInt(); n > 0; n--) {
            String key = text();
            String[] values = new String[script.getInt()];
            for (int i = 0; i < values.length; i++) {
                values[i] = text();
            }
            frame.texts.put(key, values);
        }
        for (int n = script.getInt(); n > 0; n--) {
            frame.ops.put(text(), longs());
        }
        return frame;
    }

    private static void play(EdgeMonitor monitor, FrameScript script, String prefix) {
        try (Frame frame = script.id.isEmpty() ? monitor.frame() : monitor.frame(prefix + script.id)) {
            if (script.keep) {
                frame.keep();
            }
            for (Map.Entry<String, Tensor> raw : script.raw.entrySet()) {
                frame.raw(raw.getKey(), raw.getValue());
            }
            frame.stage("preprocess", () -> {});
            frame.inputs(script.inputs);
            int answer = frame.stage("inference", () -> 42);
            frame.outputs(script.outputs);
            int number = 0;
            for (Map.Entry<String, Tensor> layer : script.layers.entrySet()) {
                frame.layer(script.layerIndices[number++], layer.getKey(), layer.getValue());
            }
            for (Map.Entry<String, long[]> op : script.ops.entrySet()) {
                frame.op((int) op.getValue()[0], op.getKey(), op.getValue()[1]);
            }
            script.ints.forEach((key, values) -> frame.user(key, values));
            script.floats.forEach((key, values) -> frame.user(key, values));
            script.texts.forEach((key, values) -> frame.user(key, values));
            for (int i = 0; i < 2; i++) {
                frame.stage("postprocess", () -> answer);
            }
            if (script.fails) {
                frame.stage("broken", () -> {
                    throw new IllegalStateException("the screen is off");
                });
            }
        } catch (IllegalStateException e) {
            // As the app of the script does.
        }
    }

    private static Options options(Map<String, String> given) {
        Options options = new Options(given.get("path"));
        options.level = Level.valueOf(given.get("level").toUpperCase(java.util.Locale.ROOT));
        if (given.containsKey("raw")) {
            options.raw = Options.Raw.valueOf(given.get("raw").toUpperCase(java.util.Locale.ROOT));
        }
        options.policy = "drop".equals(given.get("policy")) ? Options.Policy.DROP : Options.Policy.BLOCK;
        if (given.containsKey("rate")) {
            options.sampling.rate = Double.valueOf(given.get("rate"));
        }
        options.sampling.seed = Long.parseUnsignedLong(given.getOrDefault("seed", "0"));
        options.sampling.every = Long.parseLong(given.getOrDefault("every", "0"));
        if (given.containsKey("low_confidence")) {
            options.sampling.lowConfidence = Double.valueOf(given.get("low_confidence"));
        }
        options.sampling.labelChange = given.containsKey("label_change");
        if (given.containsKey("predicate")) {
            double limit = Double.parseDouble(given.get("predicate"));
            options.sampling.predicate = outputs -> {
                Tensor first = outputs.values().iterator().next();
                if (first.real(1) == 0) {
                    throw new IllegalStateException("no opinion");
                }
                return first.real(0) > limit;
            };
        }
        if (given.containsKey("max_bytes")) {
            options.maxBytes = Long.parseLong(given.get("max_bytes"));
        }
        options.fileBytes = Long.parseLong(given.getOrDefault("file_bytes", "0"));
        if (given.containsKey("queue_bytes")) {
            options.queueBytes = Long.parseLong(given.get("queue_bytes"));
        }
        options.modelSha256 = given.get("model_sha256");
        options.inputContract = given.get("input_contract");
        options.appName = given.get("app_name");
        options.appVersion = given.get("app_version");
        options.kernels = given.get("kernels");
        options.threads = Integer.parseInt(given.getOrDefault("threads", "0"));
        if (given.containsKey("user")) {
            options.user.put("session", given.get("user"));
        }
        options.onProblem = (kind, message) -> {};
        return options;
    }

    public static void main(String[] arguments) throws IOException, InterruptedException {
        Player player = new Player(ByteBuffer.wrap(Files.readAllBytes(Paths.get(arguments[0]))));
        for (int logs = player.script.getInt(); logs > 0; logs--) {
            Map<String, String> given = new HashMap<>();
            for (int n = player.script.getInt(); n > 0; n--) {
                given.put(player.text(), player.text());
            }
            List<FrameScript> frames = new ArrayList<>();
            for (int n = player.script.getInt(); n > 0; n--) {
                frames.add(player.frame());
            }
            boolean forever = given.containsKey("forever");
            EdgeMonitor monitor = new EdgeMonitor(options(given));
            List<Thread> threads = new ArrayList<>();
            for (int i = 0; i < Integer.parseInt(given.get("app_threads")); i++) {
                String prefix = i + "/";
                threads.add(new Thread(() -> {
                    do {
                        for (FrameScript frame : frames) {
                            play(monitor, frame, prefix);
                            if (forever) {
                                System.out.println(monitor.counts().written);
                                System.out.flush();
                            }
                        }
                    } while (forever);
                }));
            }
            for (Thread thread : threads) {
                thread.start();
            }
            for (Thread thread : threads) {
                thread.join();
            }
            Frame open = monitor.frame("open");
            open.keep();
            if (!given.containsKey("open")) {
                open.close();
            }
            monitor.close();
            monitor.close();
            play(monitor, frames.get(0), "late/");
        }
    }
}
