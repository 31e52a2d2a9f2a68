extension MC146818 {
    /// Where things are ("Address Map"); the century is where ACPI's FADT says.
    enum Register {
        static let second = 0x00
        static let secondAlarm = 0x01
        static let minute = 0x02
        static let minuteAlarm = 0x03
        static let hour = 0x04
        static let hourAlarm = 0x05
        static let dayOfWeek = 0x06
        static let day = 0x07
        static let month = 0x08
        static let year = 0x09
        static let a = 0x0a
        static let b = 0x0b
        static let c = 0x0c
        static let d = 0x0d
        static let century = 0x32

        /// The bytes that the running clock changes.
        static let time = [second, minute, hour, dayOfWeek, day, month, year, century]

        static func isTime(_ address: Int) -> Bool {
            switch address {
            case second, minute, hour, dayOfWeek, day, month, year, century: true
            default: false
            }
        }
    }

    /// Register B ("Register B"); register C has its flags in the places of B's enables.
    enum RegisterB {
        static let hours24: UInt8 = 1 << 1  // 24/12
        static let binary: UInt8 = 1 << 2  // DM
        static let squareWave: UInt8 = 1 << 3  // SQWE
        static let updateEnded: UInt8 = 1 << 4  // UIE, UF
        static let alarm: UInt8 = 1 << 5  // AIE, AF
        static let periodic: UInt8 = 1 << 6  // PIE, PF
        static let set: UInt8 = 1 << 7  // SET
        static let enables: UInt8 = updateEnded | alarm | periodic
    }
}
