package edgeexray;

/**
 * How much of a frame is logged; each level logs all of the one before: outputs (answers, times, hash of the raw data),
 * inputs (what the model was fed, raw data), layers (tensors between the ops, times of the ops).
 */
public enum Level {
    OFF,
    OUTPUTS,
    INPUTS,
    LAYERS;

    String text() {
        return name().toLowerCase(java.util.Locale.ROOT);
    }
}
