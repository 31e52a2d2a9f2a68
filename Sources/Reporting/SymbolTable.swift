/// The functions of a guest's kernel by address, from its `System.map` or from `/proc/kallsyms`.
///
/// Each line is an address in hexadecimal, a letter for the kind of symbol, and a name, divided by
/// blanks; what follows (kallsyms names the module) is ignored. Functions are the kinds T, t, W and
/// w; other symbols are left out. An address belongs to the last function that is not above it.
public struct SymbolTable: Sendable {
    /// The most functions that are taken.
    public static let mostSymbols = 1 << 20
    /// How far behind the last function an address may lie that belongs to it: 1 MiB.
    private static let reach: UInt64 = 1 << 20

    private var addresses: [UInt64] = []
    private var names: [String] = []
    /// How far the guest's kernel has moved itself.
    private var slide: UInt64 = 0

    /// - Throws: `SymbolError`, which names the line.
    public init(parsing text: [UInt8]) throws(SymbolError) {
        var symbols: [(address: UInt64, name: String)] = []
        var number = 0
        for line in text.split(separator: 0x0a, omittingEmptySubsequences: false) {
            number += 1
            let words = line.split { $0 == 0x20 || $0 == 0x09 || $0 == 0x0d }
            if words.isEmpty { continue }
            guard words.count >= 3, words[1].count == 1,
                let address = UInt64(String(decoding: words[0], as: UTF8.self), radix: 16)
            else { throw .badLine(number) }
            guard "TtWw".utf8.contains(words[1][words[1].startIndex]) else { continue }
            guard symbols.count < Self.mostSymbols else { throw .tooMany }
            symbols.append((address, String(decoding: words[2], as: UTF8.self)))
        }
        guard symbols.contains(where: { $0.address != 0 }) else { throw .noSymbols }
        symbols.sort { $0.address < $1.address }
        // Of several names of one address, the first in the file.
        for symbol in symbols where symbol.address != addresses.last {
            addresses.append(symbol.address)
            names.append(symbol.name)
        }
    }

    /// Has addresses looked up as those of a kernel that moved itself when it booted, where that can
    /// be told.
    /// - Parameter entry: where the kernel takes system calls now. Linux moves by multiples of 2 MiB;
    ///   anything else leaves the table as it is.
    public mutating func follow(systemCallEntry entry: UInt64) {
        guard let index = names.firstIndex(of: "entry_SYSCALL_64") else { return }
        let distance = entry &- addresses[index]
        if entry != 0, distance & 0x1f_ffff == 0 { slide = distance }
    }

    /// The name of what lies at an address, and how far in; nil where nothing is known of it.
    public func symbol(at address: UInt64) -> (name: String, offset: UInt64)? {
        let address = address &- slide
        // The first symbol above the address.
        var low = 0
        var high = addresses.count
        while low < high {
            let middle = (low + high) / 2
            if addresses[middle] <= address { low = middle + 1 } else { high = middle }
        }
        guard low > 0 else { return nil }
        let offset = address - addresses[low - 1]
        guard low < addresses.count || offset < Self.reach else { return nil }
        return (names[low - 1], offset)
    }
}

/// Why a file is no table of symbols.
public enum SymbolError: Error, Equatable, CustomStringConvertible {
    /// A line, counted from 1, is none of a table of symbols.
    case badLine(Int)
    /// There are more functions than `SymbolTable.mostSymbols`.
    case tooMany
    /// There is no function, or all addresses are zero.
    case noSymbols

    public var description: String {
        switch self {
        case .badLine(let line):
            "line \(line) is no symbol: ADDRESS KIND NAME, as in System.map and /proc/kallsyms"
        case .tooMany: "more than \(SymbolTable.mostSymbols) functions"
        case .noSymbols:
            "no functions with addresses: Debian's System.map has none, and /proc/kallsyms shows "
                + "them to the superuser alone"
        }
    }
}
