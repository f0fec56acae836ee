import edgeexray.Counts;
import edgeexray.EdgeMonitor;
import edgeexray.Frame;
import edgeexray.Level;
import edgeexray.Options;
import edgeexray.Tensor;

/** An app with the monitor: javac -d build edgeexray/*.java Example.java, then java -cp build Example run.exray. */
public final class Example {
    private Example() {}

    public static void main(String[] arguments) {
        Options options = new Options(arguments.length > 0 ? arguments[0] : "run.exray");
        options.level = Level.INPUTS;
        options.sampling.every = 10;
        options.sampling.labelChange = true;
        options.appName = "example";
        EdgeMonitor monitor = new EdgeMonitor(options);
        for (int number = 0; number < 100; number++) {
            try (Frame frame = monitor.frame()) {
                byte[] pixels = photograph(number);
                frame.raw(Tensor.uint8(pixels, 32, 32, 3));
                float[] image = frame.stage("preprocess", () -> preprocess(pixels));
                frame.input("image", Tensor.float32(image, 1, 32, 32, 3));
                float[] scores = frame.stage("inference", () -> infer(image));
                frame.output("scores", Tensor.float32(scores, 1, 3));
                frame.user("exposure_ms", 8.5);
            }
        }
        monitor.close();
        Counts counts = monitor.counts();
        System.out.println(counts.seen + " frames, " + counts.written + " logged, " + counts.lost() + " lost");
    }

    private static byte[] photograph(int number) {
        byte[] pixels = new byte[32 * 32 * 3];
        for (int i = 0; i < pixels.length; i++) {
            pixels[i] = (byte) (i * 7 + number * 31);
        }
        return pixels;
    }

    private static float[] preprocess(byte[] pixels) {
        float[] image = new float[pixels.length];
        for (int i = 0; i < pixels.length; i++) {
            image[i] = (pixels[i] & 0xFF) / 127.5f - 1;
        }
        return image;
    }

    /** Stands for a model. */
    private static float[] infer(float[] image) {
        float[] scores = new float[3];
        for (int i = 0; i < image.length; i++) {
            scores[i % 3] += image[i];
        }
        return scores;
    }
}
