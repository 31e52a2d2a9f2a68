/// The keys that the terminal keeps for itself, all after Ctrl-A, as in QEMU.
struct EscapeKeys {
    /// What a key asks for.
    enum Action: Equatable {
        /// The byte is the guest's.
        case send(UInt8)
        /// Nothing, or not yet.
        case nothing
        /// End the machine.
        case end
        /// Save the machine.
        case save
        /// Show which keys there are.
        case help
    }

    static let help = """
        \r
        Ctrl-A X       end the machine\r
        Ctrl-A S       save the machine (with --save FILE)\r
        Ctrl-A H       this help\r
        Ctrl-A Ctrl-A  send Ctrl-A to the guest\r

        """

    private static let controlA: UInt8 = 1
    private var isAfterControlA = false

    /// Takes one byte from the terminal. An unknown key after Ctrl-A is dropped with it.
    mutating func action(for byte: UInt8) -> Action {
        guard isAfterControlA else {
            isAfterControlA = byte == Self.controlA
            return isAfterControlA ? .nothing : .send(byte)
        }
        isAfterControlA = false
        switch byte {
        case Self.controlA: return .send(byte)
        case UInt8(ascii: "x"), UInt8(ascii: "X"): return .end
        case UInt8(ascii: "s"), UInt8(ascii: "S"): return .save
        case UInt8(ascii: "h"), UInt8(ascii: "H"), UInt8(ascii: "?"): return .help
        default: return .nothing
        }
    }
}
