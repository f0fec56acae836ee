package edgeexray;

import java.nio.ByteBuffer;

/** CRC-32C, the checksum of TFRecord; that of the JDK came with Java 9, and late to Android. */
final class Crc32c {
    private static final int CASTAGNOLI = 0x82F63B78; // reflected
    private static final int[][] TABLES = new int[8][256];

    static {
        for (int i = 0; i < 256; i++) {
            int state = i;
            for (int bit = 0; bit < 8; bit++) {
                state = state >>> 1 ^ ((state & 1) != 0 ? CASTAGNOLI : 0);
            }
            TABLES[0][i] = state;
        }
        for (int k = 1; k < 8; k++) {
            for (int i = 0; i < 256; i++) {
                TABLES[k][i] = TABLES[k - 1][i] >>> 8 ^ TABLES[0][TABLES[k - 1][i] & 0xFF];
            }
        }
    }

    private Crc32c() {}

    /** Of earlier data with the checksum crc and a buffer's content from 0 to end, little-endian, behind it. */
    static int update(int crc, ByteBuffer data, int end) {
        // Eight bytes at a time ("slicing by 8", Kounavis and Berry 2005).
        int[] t0 = TABLES[0], t1 = TABLES[1], t2 = TABLES[2], t3 = TABLES[3];
        int[] t4 = TABLES[4], t5 = TABLES[5], t6 = TABLES[6], t7 = TABLES[7];
        int state = ~crc;
        int i = 0;
        for (; i <= end - 8; i += 8) {
            long word = data.getLong(i);
            int low = (int) word ^ state;
            int high = (int) (word >>> 32);
            state = t7[low & 0xFF] ^ t6[low >>> 8 & 0xFF] ^ t5[low >>> 16 & 0xFF] ^ t4[low >>> 24]
                    ^ t3[high & 0xFF] ^ t2[high >>> 8 & 0xFF] ^ t1[high >>> 16 & 0xFF] ^ t0[high >>> 24];
        }
        for (; i < end; i++) {
            state = state >>> 8 ^ t0[(state ^ data.get(i)) & 0xFF];
        }
        return ~state;
    }

    /** As TFRecord stores it. */
    static int mask(int crc) {
        return (crc >>> 15 | crc << 17) + 0xA282EAD8;
    }
}
