package edgeexray;

import java.util.LinkedHashMap;
import java.util.Map;

/** A frame on its way to the file; big tensors are copied once, when they are logged, and never joined. */
final class Record {
    final Features head = new Features(1 << 10, false);
    final Features body;
    final Map<String, Features> toHash = new LinkedHashMap<>(); // name of a raw tensor, its elements

    Record(Features body) {
        this.body = body;
    }

    long memory() {
        long size = (long) head.capacity() + body.size();
        for (Features raw : toHash.values()) {
            size += raw.size();
        }
        return size;
    }
}
