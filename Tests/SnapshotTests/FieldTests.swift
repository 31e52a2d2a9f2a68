import Snapshot
import Testing

@Suite struct FieldTests {
    /// Integers of all widths, flags, optionals, bytes and text.
    private static func write() -> [UInt8] {
        var writer = FieldWriter()
        writer.put(0x12 as UInt8)
        writer.put(0x1234_5678_9abc_def0 as UInt64)
        writer.put(-2 as Int64)
        writer.put(true)
        writer.put(optional: 7 as UInt16?)
        writer.put(optional: nil as UInt32?)
        writer.put([1, 2, 3])
        writer.put("é")
        return writer.bytes
    }

    private static func read(_ bytes: [UInt8]) throws(FieldError) {
        var reader = FieldReader(bytes)
        let byte: UInt8 = try reader.get("a", in: 0...0x12)
        let quad: UInt64 = try reader.get("b", mask: 0x1234_5678_9abc_def0)
        let signed: Int64 = try reader.get("c")
        let flag = try reader.flag("d")
        let some: UInt16? = try reader.optional("e", in: 1...7)
        let none: UInt32? = try reader.optional("f")
        let list = try reader.list("g", atMost: 3)
        let text = try reader.text("h", atMost: 2)
        try reader.finish()
        #expect(byte == 0x12 && quad == 0x1234_5678_9abc_def0 && signed == -2 && flag)
        #expect(some == 7 && none == nil && list == [1, 2, 3] && text == "é")
    }

    @Test("what is written is read back, and is little-endian")
    func roundTrip() throws {
        let bytes = Self.write()
        #expect(Array(bytes[1..<9]) == [0xf0, 0xde, 0xbc, 0x9a, 0x78, 0x56, 0x34, 0x12])
        try Self.read(bytes)
    }

    @Test("bytes that end anywhere before their end are refused, and so are more")
    func lengths() {
        let bytes = Self.write()
        for count in 0..<bytes.count {
            #expect(throws: FieldError.self) { try Self.read(Array(bytes.prefix(count))) }
        }
        #expect(throws: FieldError.tooLong(1)) { try Self.read(bytes + [0]) }
    }

    @Test("values out of range, other bits, and flags that are neither 0 nor 1 are refused")
    func values() {
        func fields(_ bytes: UInt8...) -> FieldReader { FieldReader(bytes) }
        #expect(throws: FieldError.badValue("x")) {
            var reader = fields(9)
            _ = try reader.get("x", UInt8.self, in: 0...8)
        }
        #expect(throws: FieldError.badValue("x")) {
            var reader = fields(9)
            _ = try reader.get("x", UInt8.self, mask: 8)
        }
        #expect(throws: FieldError.badValue("x")) {
            var reader = fields(2)
            _ = try reader.flag("x")
        }
        #expect(throws: FieldError.badValue("x")) {
            var reader = fields(0, 1)
            _ = try reader.optional("x", UInt8.self)
        }
        #expect(throws: FieldError.badValue("x")) {
            var reader = fields(255, 255, 255, 255, 0)
            _ = try reader.list("x", atMost: 1 << 20)
        }
        #expect(throws: FieldError.badValue("x")) {
            var reader = fields(1, 0, 0, 0, 0xff)
            _ = try reader.text("x", atMost: 1)
        }
    }
}
