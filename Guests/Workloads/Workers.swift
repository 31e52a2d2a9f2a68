/// What the workers of a run share, in a mapped page: two words a worker, and behind them what all
/// of them are told.
struct Shared {
    private let memory: Memory
    private static let common = 2 * mostWorkers

    init() { memory = Memory(pages: 1, isShared: true) }
    init(address: Int) { memory = Memory(address: address, size: Memory.pageSize) }

    /// What a thread is started with: the page's address, which leaves room for a worker's number.
    var address: Int { memory.address }

    static let mostWorkers = 64

    /// Whether a worker has prepared what it needs.
    func isReady(_ worker: Int) -> Bool { memory[worker * 2] != 0 }
    func setReady(_ worker: Int) { memory[worker * 2] = 1 }
    func result(_ worker: Int) -> UInt64 { memory[worker * 2 + 1] }
    func setResult(_ worker: Int, _ value: UInt64) { memory[worker * 2 + 1] = value }
    /// Whether the workers may begin.
    var isOpen: Bool {
        get { memory[Shared.common] != 0 }
        nonmutating set { memory[Shared.common] = newValue ? 1 : 0 }
    }
    /// Whether one of them has failed before that, and the others are to end.
    var isAbandoned: Bool {
        get { memory[Shared.common + 3] != 0 }
        nonmutating set { memory[Shared.common + 3] = newValue ? 1 : 0 }
    }
    /// What they do.
    var workload: UInt16 {
        get { UInt16(truncatingIfNeeded: memory[Shared.common + 1]) }
        nonmutating set { memory[Shared.common + 1] = UInt64(newValue) }
    }
    /// How much each of them does.
    var size: Int {
        get { Int(memory[Shared.common + 2]) }
        nonmutating set { memory[Shared.common + 2] = UInt64(newValue) }
    }
}

/// Where a workload has prepared what it needs, and its region begins.
struct Gate {
    let workload: Workload
    /// The worker's number, from 0 up.
    let worker: Int
    /// What it shares with others; nil: it is the only one, and begins the region itself.
    let shared: Shared?

    func pass() {
        guard let shared else { return Region.begin(workload.region) }
        shared.setReady(worker)
        while !shared.isOpen {
            if shared.isAbandoned { System.exit(1) }
            System.attempt(.schedYield)
        }
    }
}

enum Workers {
    /// Runs a workload on one worker, or on several, each on a processor of its own.
    /// - Returns: a checksum of the workers' checksums.
    static func run(_ workload: Workload, size: Int, workers: Int) -> UInt64 {
        var checksum = Checksum()
        if workers == 1 {
            checksum.add(
                workload.run(size: size, Gate(workload: workload, worker: 0, shared: nil)))
            Region.end(workload.region)
            return checksum.value
        }
        let shared = Shared()
        shared.workload = workload.rawValue
        shared.size = size
        for worker in 0..<workers {
            if workload.sharesMemory {
                System.startThread(shared.address + worker)
            } else if System.fork() == 0 {
                work(shared, worker)
            }
        }
        for worker in 0..<workers {
            while !shared.isReady(worker) {
                if System.hasEndedChild() {
                    shared.isAbandoned = true
                    System.exit(1)
                }
                System.attempt(.schedYield)
            }
        }
        Region.begin(workload.region)
        shared.isOpen = true
        for _ in 0..<workers {
            let status = System.wait()
            if status != 0 { System.exit(status) }
        }
        Region.end(workload.region)
        for worker in 0..<workers { checksum.add(shared.result(worker)) }
        return checksum.value
    }

    static func work(_ shared: Shared, _ worker: Int) -> Never {
        System.pin(to: worker)
        guard let workload = Workload(rawValue: shared.workload) else { System.exit(1) }
        let gate = Gate(workload: workload, worker: worker, shared: shared)
        shared.setResult(worker, workload.run(size: shared.size, gate))
        System.exit(0)
    }
}

/// Where a thread begins.
@c(workloads_thread)
public func thread(_ argument: Int) -> Int32 {
    let page = argument & ~(Memory.pageSize - 1)
    Workers.work(Shared(address: page), argument - page)
}
