extension UART16550 {
    /// Interrupt Enable Register (8.7).
    enum Enable {
        static let receivedData: UInt8 = 1 << 0  // ERBFI
        static let transmitterEmpty: UInt8 = 1 << 1  // ETBEI
        static let lineStatus: UInt8 = 1 << 2  // ELSI
        static let modemStatus: UInt8 = 1 << 3  // EDSSI
    }

    /// Interrupt Identification Register, bits 3…0 (8.6, table IV).
    enum InterruptIdentification: UInt8 {
        case modemStatus = 0x0
        case none = 0x1
        case transmitterEmpty = 0x2
        case receivedData = 0x4
        case lineStatus = 0x6
        case characterTimeout = 0xc
    }

    /// Line Control Register (8.1).
    enum LineControl {
        static let divisorAccess: UInt8 = 1 << 7  // DLAB
    }

    /// Modem Control Register (8.8).
    enum ModemControl {
        static let dataTerminalReady: UInt8 = 1 << 0  // DTR
        static let requestToSend: UInt8 = 1 << 1  // RTS
        static let out1: UInt8 = 1 << 2
        static let out2: UInt8 = 1 << 3
        static let loop: UInt8 = 1 << 4
    }

    /// Line Status Register (8.4).
    enum LineStatus {
        static let dataReady: UInt8 = 1 << 0  // DR
        static let overrun: UInt8 = 1 << 1  // OE
        static let transmitterEmpty: UInt8 = 1 << 5 | 1 << 6  // THRE, TEMT
    }

    /// Modem Status Register (8.9).
    enum ModemStatus {
        static let deltas: UInt8 = 0x0f  // DCTS, DDSR, TERI, DDCD
        static let trailingRing: UInt8 = 1 << 2  // TERI
        static let clearToSend: UInt8 = 1 << 4  // CTS
        static let dataSetReady: UInt8 = 1 << 5  // DSR
        static let ring: UInt8 = 1 << 6  // RI
        static let carrier: UInt8 = 1 << 7  // DCD
    }
}
