package edgeexray;

import java.io.File;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** The files of a log: names, rotation, records. Used by one thread. */
final class LogFiles {
    /** Encodes the features of a header or footer. */
    interface Ends {
        Features header(int part);

        Features footer(int part, boolean isFinal);

        /** A file could not be closed in order. */
        void unclosed(IOException cause);
    }

    /** A frame does not fit into the limits. */
    static final class TooLargeException extends Exception {
        private static final long serialVersionUID = 1;
    }

    private static final long FOOTER_BYTES = 4096; // more than one takes

    /** What rotation deleted, of all files of the log's name, and frames of this run. */
    long deletedFiles, deletedBytes, deletedFrames;

    private final File directory;
    private final String stem, suffix;
    private final Pattern pattern;
    private final long fileBytes, maxBytes;
    private final boolean sync;
    private final Ends ends;
    private final Map<Long, Long> own = new HashMap<>(); // frames in each file of this run
    private RandomAccessFile file;
    private int part;
    private long number, size, others;

    LogFiles(Options options, Ends ends) {
        directory = options.file.getAbsoluteFile().getParentFile();
        String name = options.file.getName();
        int dot = name.lastIndexOf('.');
        stem = dot > 0 ? name.substring(0, dot) : name;
        suffix = dot > 0 ? name.substring(dot) : "";
        pattern = Pattern.compile(Pattern.quote(stem) + "(?:-(\\d{5,18}))?" + Pattern.quote(suffix));
        fileBytes = options.fileBytes > 0 ? options.fileBytes : options.maxBytes / 8;
        maxBytes = options.maxBytes;
        sync = options.sync;
        this.ends = ends;
    }

    /** Begins a file unless one is open. */
    void begin() throws IOException {
        if (file != null) {
            return;
        }
        directory.mkdirs();
        TreeMap<Long, Long> files = list();
        number = files.isEmpty() ? 0 : files.lastKey() + 1;
        while (!path(number).createNewFile()) { // another process was faster
            number++;
        }
        size = 0;
        try {
            file = new RandomAccessFile(path(number), "rw");
            append(ends.header(part), null);
        } catch (IOException e) {
            giveUp();
            // A file without a header is none; nobody has seen this one.
            path(number).delete();
            throw e;
        }
        own.put(number, 0L);
        part++;
        others = 0;
        for (Map.Entry<Long, Long> entry : list().entrySet()) {
            others += entry.getKey() == number ? 0 : entry.getValue();
        }
    }

    /** Writes a frame, into the next file where the limits say so. */
    void write(Features head, Features body) throws IOException, TooLargeException {
        long features = (long) head.size() + body.size();
        if (Features.fieldSize(features) > Integer.MAX_VALUE) {
            throw new TooLargeException();
        }
        long needed = recordSize(features);
        boolean isFull = file != null && fileBytes > 0 && size + needed > fileBytes && own.get(number) > 0;
        if (maxBytes > 0) {
            boolean starts = file == null || isFull;
            needed += FOOTER_BYTES + (starts ? recordSize(ends.header(part).size()) : 0);
            if (needed + (starts ? 0 : size) > maxBytes) {
                throw new TooLargeException();
            }
        }
        if (isFull) {
            end(false);
        }
        if (maxBytes > 0) {
            makeRoom(needed);
        }
        begin();
        try {
            append(head, body);
        } catch (IOException e) {
            // A file that may not grow, or cannot be cut back to its last whole record, is left behind. Java tells
            // the reason in the system's words only.
            if (file != null && !String.valueOf(e.getMessage()).contains("too large")) {
                throw e;
            }
            end(false);
            begin();
            append(head, body);
        }
        own.put(number, own.get(number) + 1);
    }

    /** Ends the file with its footer. */
    void end(boolean isFinal) {
        if (file == null) {
            return;
        }
        try {
            append(ends.footer(part - 1, isFinal), null);
            file.getChannel().force(true);
        } catch (IOException e) {
            ends.unclosed(e);
        }
        giveUp();
    }

    File current() {
        return path(number);
    }

    private File path(long n) {
        return new File(directory, stem + (n == 0 ? "" : String.format(Locale.ROOT, "-%05d", n)) + suffix);
    }

    /** Number and size of the files of the log's name that exist. */
    private TreeMap<Long, Long> list() {
        TreeMap<Long, Long> files = new TreeMap<>();
        String[] names = directory.list();
        for (String name : names == null ? new String[0] : names) {
            Matcher matcher = pattern.matcher(name);
            if (matcher.matches()) {
                long n = matcher.group(1) == null ? 0 : Long.parseLong(matcher.group(1));
                files.put(n, new File(directory, name).length());
            }
        }
        return files;
    }

    /** Deletes the oldest files until so many bytes more are allowed. */
    private void makeRoom(long wanted) {
        if (part > 0 && others + (file != null ? size : 0) + wanted <= maxBytes) {
            return;
        }
        TreeMap<Long, Long> files = list();
        long total = 0;
        for (long bytes : files.values()) {
            total += bytes;
        }
        for (Map.Entry<Long, Long> entry : files.entrySet()) {
            if (total + wanted <= maxBytes) {
                break;
            }
            if (file != null && entry.getKey() == number || !path(entry.getKey()).delete()) {
                continue;
            }
            total -= entry.getValue();
            deletedFiles++;
            deletedBytes += entry.getValue();
            Long frames = own.remove(entry.getKey());
            deletedFrames += frames == null ? 0 : frames;
        }
        others = total - (file != null ? size : 0);
    }

    private static long recordSize(long features) {
        return 8 + 4 + Features.fieldSize(features) + 4;
    }

    /**
     * Appends a record. What could be written of it only in part is cut off again; where that fails too the file is
     * given up.
     */
    private void append(Features head, Features body) throws IOException {
        if (file == null) {
            throw new IOException("the file of the log was given up");
        }
        ByteBuffer example = Features.exampleHead((long) head.size() + (body == null ? 0 : body.size()));
        int crc = head.crc(Crc32c.update(0, example, example.limit()));
        long length = (long) example.limit() + head.size() + (body == null ? 0 : body.size());
        ByteBuffer start = ByteBuffer.allocate(12).order(ByteOrder.LITTLE_ENDIAN).putLong(length);
        start.putInt(Crc32c.mask(Crc32c.update(0, start, 8)));
        start.flip();
        ByteBuffer tail = ByteBuffer.allocate(4).order(ByteOrder.LITTLE_ENDIAN);
        tail.putInt(0, Crc32c.mask(body == null ? crc : body.crc(crc)));
        ByteBuffer big = body == null ? ByteBuffer.allocate(0) : body.content();
        ByteBuffer[] parts = {start, example, head.content(), big, tail};
        FileChannel channel = file.getChannel();
        try {
            while (tail.hasRemaining()) {
                if (channel.write(parts) == 0) {
                    throw new IOException("the file takes no more bytes");
                }
            }
        } catch (IOException e) {
            try {
                channel.truncate(size);
                channel.position(size);
            } catch (IOException f) {
                giveUp();
                ends.unclosed(f);
            }
            throw e;
        }
        size += 12 + length + 4;
        if (sync) {
            channel.force(false);
        }
    }

    private void giveUp() {
        if (file == null) {
            return;
        }
        try {
            file.close();
        } catch (IOException e) {
            // All of it has been handed to the system before.
        }
        file = null;
        others += size;
    }
}
