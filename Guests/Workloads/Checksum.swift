/// What a workload has done, as a number: equal work gives equal numbers.
struct Checksum {
    private(set) var value: UInt64 = 0xcbf2_9ce4_8422_2325

    mutating func add(_ number: UInt64) {
        value = (value ^ number) &* 0x0000_0100_0000_01b3
        value ^= value >> 32
    }

    mutating func add(_ number: Int) { add(UInt64(bitPattern: Int64(number))) }
}
