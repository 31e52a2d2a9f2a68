import MachineMemory

/// The floating-point and vector half of a processor: x87, MMX and SSE to SSE4.2.
///
/// *Problem.* Some six hundred instructions whose results must be right to the last bit and flag.
///
/// *Approach.* The host's own processor executes them. Each distinct guest instruction is
/// re-encoded once into a *stub* (`StubBuilder`) that loads the registers it names from the
/// guest's image, runs it on them, and stores the results back; a memory operand is replaced by a
/// slot that the handler fills and empties through the guest's page tables. So decoding, faults,
/// alignment, masking and privilege are here, and arithmetic is exact by construction. Plain
/// moves between registers and memory need no stub (`VectorMoves`), nor do the instructions that
/// handle the state itself (`X87Control`, `StateImages`).
///
/// *Example.* `addsd xmm1, [rbx+8]` becomes
/// ```
/// stmxcsr [rdi+64]; ldmxcsr [rdi+68]; movaps xmm1, [rdi+304]
/// addsd xmm1, [rdi]
/// stmxcsr [rdi+72]; ldmxcsr [rdi+64]; …test for unmasked exceptions…; movaps [rdi+304], xmm1
/// ```
///
/// *Caveats.*
/// - It needs an x86-64 host that allows executable memory (`isAvailable`); elsewhere every one of
///   these instructions is undefined, and a processor model must not advertise them.
/// - What the architecture leaves to the implementation is the host's: the approximations of
///   RCPPS, RSQRTPS and their scalar forms, and the last bits of the x87 transcendentals.
/// - With MXCSR.UM clear, a result that is tiny but exact does not raise #XM.
/// - An x87 exception that IGNNE# has ignored is forgotten by the next instruction that would wait.
final class VectorUnit {
    let block: VectorBlock
    private let code: ExecutableMemory?
    /// Stubs by their own code, so that instructions that need the same one share it; the values
    /// are distances from the first stub in bytes.
    private var stubs: [[UInt8]: UInt32] = [:]
    /// A stub did not fit: `flush` is due, when no decoded code refers to stubs any more.
    private(set) var isFull = false

    /// The size in bytes of the memory for stubs, of a machine's processors together: some 40 000
    /// of them; and the least of one.
    static let machineCapacity = 2 << 20
    static let leastCapacity = 256 << 10

    /// Whether this host can execute vector instructions for the guest.
    static let isAvailable: Bool = {
        #if arch(x86_64)
            ExecutableMemory(capacity: 4096) != nil
        #else
            false
        #endif
    }()

    /// - Parameters:
    ///   - memory: `VectorBlock.byteCount` bytes, aligned to 64, that live as long as the unit.
    ///   - processors: how many of the machine have a unit like this.
    init(at memory: UnsafeMutableRawPointer, processors: Int) {
        block = VectorBlock(UInt64(UInt(bitPattern: memory)))
        block[VectorBlock.firstStub] = UInt64(0)
        #if arch(x86_64)
            code = ExecutableMemory(
                capacity: max(Self.machineCapacity / max(processors, 1), Self.leastCapacity))
        #else
            code = nil
        #endif
        block.reset()
        flush()
    }

    /// Puts the state as after RESET#. Stubs stay.
    func reset() { block.reset() }

    /// Forgets all stubs. No op that was decoded before may run any more.
    func flush() {
        stubs.removeAll(keepingCapacity: true)
        isFull = false
        code?.removeAll()
        // RET, so that the first stub's address is known before any other is placed.
        let first = code?.append([0xc3])
        block[VectorBlock.firstStub] = UInt64(first ?? 0)
    }

    /// Whether stubs can be made at all in this process.
    var canExecute: Bool { block[VectorBlock.firstStub, as: UInt64.self] != 0 }

    /// Builds an op's stub and has the op name it; when it does not fit, the op's handler becomes
    /// the one that makes room.
    func place(_ plan: StubBuilder.Plan, _ op: inout Op) {
        guard let stub = place(StubBuilder.build(plan)) else {
            op.handler = VectorStubs.missing
            return
        }
        op.a = UInt16(truncatingIfNeeded: stub)
        op.b = UInt16(truncatingIfNeeded: stub >> 16)
    }

    /// Where the stub with this code lies, in bytes from the first one; nil when it does not fit.
    private func place(_ stub: [UInt8]) -> UInt32? {
        if let known = stubs[stub] { return known }
        guard let address = code?.append(stub) else {
            isFull = true
            return nil
        }
        let distance = UInt64(address) &- block[VectorBlock.firstStub, as: UInt64.self]
        let offset = UInt32(truncatingIfNeeded: distance)
        stubs[stub] = offset
        return offset
    }

    /// The guest's vector state, 512 bytes in the layout of FXSAVE64, the same on every host:
    /// for digests.
    var image: [UInt8] { block.imageCopy }
}

extension VectorBlock {
    /// Runs the stub at a distance from the first one.
    /// - Returns: the SIMD exception flags if one of them is unmasked; then nothing was written.
    @inline(__always)
    func run(_ stub: UInt32, _ core: Core) -> UInt32 {
        // The distance comes from VectorUnit.place, which also wrote the code there; stubs keep
        // to the C calling convention.
        let first: UInt64 = self[VectorBlock.firstStub]
        let entry = unsafe unsafeBitCast(
            UInt(truncatingIfNeeded: first) &+ UInt(stub),
            to: (@convention(c) (UInt, UInt) -> UInt32).self)
        return entry(address, core.address)
    }
}
