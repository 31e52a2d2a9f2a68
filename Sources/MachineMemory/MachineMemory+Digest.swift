import X86

extension MachineMemory {
    /// A 64-bit digest of guest RAM, by guest-physical address; pages of zeroes do not count, so
    /// that the digest does not depend on how far the host has backed the mapping.
    ///
    /// FNV-1a over 8-byte words with the page's guest frame mixed in; a fingerprint for comparing
    /// runs, not a cryptographic hash.
    public func guestDigest() -> UInt64 {
        var digest: UInt64 = 0xcbf2_9ce4_8422_2325
        digestPages(from: 0, bytes: lowGuestBytes, into: &digest)
        digestPages(from: Self.highStart, bytes: highGuestBytes, into: &digest)
        return digest
    }

    private func digestPages(from guest: UInt64, bytes: UInt64, into digest: inout UInt64) {
        var offset: UInt64 = 0
        while offset < bytes {
            let page = unsafe (base + Int(guestBase + guest + offset))
            var hash: UInt64 = 0xcbf2_9ce4_8422_2325
            var any: UInt64 = 0
            for word in stride(from: 0, to: Int(pageSize), by: 8) {
                let value = unsafe page.load(fromByteOffset: word, as: UInt64.self)
                any |= value
                hash = (hash ^ value) &* 0x0000_0100_0000_01b3
                hash ^= hash >> 29
            }
            if any != 0 {
                digest = (digest ^ hash ^ (guest + offset)) &* 0x0000_0100_0000_01b3
                digest ^= digest >> 31
            }
            offset += pageSize
        }
    }
}
