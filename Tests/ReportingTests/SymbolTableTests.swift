import Reporting
import Testing

@Suite struct SymbolTableTests {
    private static let map = """
        0000000000000000 A fixed_percpu_data
        ffffffff81000100 T start_here
        ffffffff81000000 T _text
        ffffffff81000000 T same_place
        ffffffff81800040 T entry_SYSCALL_64
        ffffffffc0000000 t helper\t[module]

        """

    @Test func `an address belongs to the last symbol below it`() throws {
        let table = try SymbolTable(parsing: Array(Self.map.utf8))
        #expect(try #require(table.symbol(at: 0xffff_ffff_8100_0000)) == ("_text", 0))
        #expect(try #require(table.symbol(at: 0xffff_ffff_8100_00ff)) == ("_text", 0xff))
        #expect(try #require(table.symbol(at: 0xffff_ffff_8100_0101)) == ("start_here", 1))
        #expect(try #require(table.symbol(at: 0xffff_ffff_c000_0010)) == ("helper", 0x10))
        #expect(table.symbol(at: 0xffff_ffff_80ff_ffff) == nil)
        #expect(table.symbol(at: 0x40_0000) == nil)
        #expect(table.symbol(at: 0xffff_ffff_d000_0000) == nil)
    }

    @Test func `a kernel that has moved itself is followed by its system-call entry`() throws {
        var table = try SymbolTable(parsing: Array(Self.map.utf8))
        table.follow(systemCallEntry: 0xffff_ffff_a380_0040)
        #expect(try #require(table.symbol(at: 0xffff_ffff_a300_0101)) == ("start_here", 1))
        // Not by a multiple of 2 MiB: some other kernel's.
        var other = try SymbolTable(parsing: Array(Self.map.utf8))
        other.follow(systemCallEntry: 0xffff_ffff_a380_1040)
        #expect(try #require(other.symbol(at: 0xffff_ffff_8100_0101)) == ("start_here", 1))
        other.follow(systemCallEntry: 0)
        #expect(try #require(other.symbol(at: 0xffff_ffff_8100_0101)) == ("start_here", 1))
    }

    @Test(
        arguments: [
            ("", .noSymbols), ("\n\n", .noSymbols), ("0 T hidden\n0 t too\n", .noSymbols),
            // What Debian's packages have in its place.
            ("ffffffffffffffff B The real System.map is in another package\n", .noSymbols),
            ("10 T a\nxyz T b\n", .badLine(2)), ("10 T\n", .badLine(1)),
            ("10 text a\n", .badLine(1)), ("12345678123456789 T a", .badLine(1)),
            ("\u{7f}ELF\u{1}\u{2}", .badLine(1)),
        ] as [(String, SymbolError)])
    func `what is no table of symbols is refused with its line`(text: String, error: SymbolError) {
        #expect(throws: error) { _ = try SymbolTable(parsing: Array(text.utf8)) }
        #expect(!"\(error)".contains("\n"))
    }

    @Test func `too many symbols are refused`() {
        let text = String(repeating: "10 T a\n", count: SymbolTable.mostSymbols + 1)
        #expect(throws: SymbolError.tooMany) { _ = try SymbolTable(parsing: Array(text.utf8)) }
    }
}
