/// Something that keeps what it decoded from memory: a processor's code cache.
package protocol CodeCache: AnyObject {
    /// Some cache has decoded code from a frame that nobody had code of before: writes to it must
    /// be told of from now on.
    func watchWrites(to frame: UInt64)
    /// `size` bytes at a machine address, within one frame, were written: what was decoded from
    /// them is to be dropped.
    func codeWritten(_ address: UInt64, size: Int)
}

/// A cache that joined. It leaves by going away.
struct WeakCodeCache {
    weak var cache: (any CodeCache)?
}

/// Which frames hold decoded code, for all processors of the machine together: a write by one must
/// drop what any other has decoded (SDM Vol. 3A §11.6, self-modifying code; §8.1.3, cross-modifying
/// code, which asks for less).
///
/// `FrameFlags.code` is set while at least one cache holds code of the frame. Writes to such a
/// frame take the slow path on every processor, and end here.
extension MachineMemory {
    /// Makes a cache one of those that are told.
    package func join(_ cache: any CodeCache) {
        codeCaches.removeAll { $0.cache == nil }
        codeCaches.append(WeakCodeCache(cache: cache))
    }

    /// One more cache holds code of a frame.
    package func addCode(in frame: UInt64) {
        codeHolders[frame, default: 0] += 1
        guard unsafe frameFlags[Int(frame)] & FrameFlags.code == 0 else { return }
        unsafe frameFlags[Int(frame)] |= FrameFlags.code
        for member in codeCaches { member.cache?.watchWrites(to: frame) }
    }

    /// One cache holds code of a frame no more.
    package func removeCode(in frame: UInt64) {
        let left = (codeHolders[frame] ?? 1) - 1
        if left > 0 {
            codeHolders[frame] = left
        } else {
            codeHolders[frame] = nil
            unsafe frameFlags[Int(frame)] &= ~FrameFlags.code
        }
    }

    /// `size` bytes in a frame with code were written.
    package func codeWritten(_ address: UInt64, size: Int) {
        for member in codeCaches { member.cache?.codeWritten(address, size: size) }
    }
}
