import Hypervisor

extension Report {
    /// A part of the run: what happened in one region.
    public struct Region: Equatable, Sendable {
        /// The region's number in decimal; `outside` of all regions; `others`, those that are not
        /// told apart.
        public var key: String
        /// How often it began.
        public var begun: UInt64
        /// Its counts, as the whole run's.
        public var sections: [Section]
        /// Where its exits come from, in each list those with most exits first.
        public var places: [Places]
    }

    /// Exits of a region by one kind of place.
    public struct Places: Equatable, Sendable {
        public var key: String
        public var title: String
        /// The places with most exits, by falling count.
        public var top: [Place]
        /// The exits of all other places.
        public var others: UInt64
    }

    /// Exits from one place.
    public struct Place: Equatable, Sendable {
        /// An address, as `0x` and 16 digits, or a function's name.
        public var name: String
        /// The function and the offset in it, of an address, where they are known.
        public var symbol: String?
        /// Exits by reason; those that there are.
        public var rows: [Row]

        /// All exits from here.
        public var count: UInt64 { rows.reduce(0) { $0 &+ $1.count } }
    }

    /// How many places of a kind a report has for each region.
    public static let mostPlaces = 64

    /// Adds the run's parts.
    /// - Parameter symbols: the guest's functions; with them, exits are counted by function too.
    public mutating func add(_ breakdown: LedgerBreakdown, symbols: SymbolTable? = nil) {
        regions = breakdown.parts.map { part in
            var places: [Places] = []
            if let symbols {
                places.append(
                    Places(
                        "exits-by-function", "Exits by function",
                        Self.functions(part.code, symbols)))
            }
            places.append(
                Places(
                    "exits-by-code", "Exits by guest code",
                    part.code.map { ($0.address.map(Self.hex), Self.symbol($0, symbols), $0.exits) }
                ))
            places.append(
                Places(
                    "exits-by-process", "Exits by process (root)",
                    part.processes.map { ($0.address.map(Self.hex), nil, $0.exits) }))
            return Region(
                key: Self.key(part.region.number), begun: part.region.begun,
                sections: Self.sections(part.region.ledger),
                places: places.filter { !$0.top.isEmpty || $0.others > 0 })
        }
    }

    private static func key(_ number: UInt16?) -> String {
        switch number {
        case nil: "others"
        case 0: "outside"
        case let number?: String(number)
        }
    }

    private static func symbol(_ place: ExitPlace, _ symbols: SymbolTable?) -> String? {
        guard let address = place.address, let symbol = symbols?.symbol(at: address) else {
            return nil
        }
        return symbol.name + "+0x" + String(symbol.offset, radix: 16)
    }

    /// Exits by function, by falling count; addresses of no function as one place.
    private static func functions(
        _ code: [ExitPlace], _ symbols: SymbolTable
    ) -> [Places.Entry] {
        var functions: [String?: Tally<ExitReason>] = [:]
        for place in code {
            let name = place.address.map { symbols.symbol(at: $0)?.name ?? "(no function)" }
            for (reason, count) in place.exits.pairs where count > 0 {
                functions[name, default: Tally()][reason] &+= count
            }
        }
        return functions.sorted {
            let (first, second) = ($0.value.sum, $1.value.sum)
            return first == second ? ($0.key ?? "") < ($1.key ?? "") : first > second
        }.map { ($0.key, nil, $0.value) }
    }

    private static func hex(_ address: UInt64) -> String {
        let digits = String(address, radix: 16)
        return "0x" + String(repeating: "0", count: 16 - digits.count) + digits
    }
}

extension Report.Places {
    /// A place's name (nil: not told apart), its symbol and its exits.
    fileprivate typealias Entry = (name: String?, symbol: String?, exits: Tally<ExitReason>)

    /// - Parameter entries: by falling count.
    fileprivate init(_ key: String, _ title: String, _ entries: [Entry]) {
        self.key = key
        self.title = title
        top = []
        others = 0
        for entry in entries {
            guard let name = entry.name, top.count < Report.mostPlaces else {
                others &+= entry.exits.sum
                continue
            }
            let rows = entry.exits.pairs.filter { $0.count > 0 }
                .map { Report.Row($0.key.rawValue, $0.count) }
            top.append(Report.Place(name: name, symbol: entry.symbol, rows: rows))
        }
    }
}
