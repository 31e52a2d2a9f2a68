import MachineMemory
import Processor
import Testing
import X86

/// Pages traced by the map of frames.
@Suite struct FrameIndicationTests {
    private let page = TracedMachine.page
    private typealias M = TracedMachine

    @Test(arguments: [true, false])
    func `a frame is recorded through every alias, also inside a large page, and no other`(
        isSmall: Bool
    ) throws {
        let traced = try M(indication: .frame, isSmall: isSmall)
        traced.trace(page + 0x1000)
        let exit = traced.execute(
            M.store(8, page + 0x1018), M.store(8, page), M.store(4, M.alias + 0x1020),
            M.store(8, page + 0x2ff8), M.store(8, M.alias + 0x2000), M.store(8, page + 0xffc))
        #expect(exit == .limit)
        #expect(traced.processor.traceProducer == 3)
        // The last one crosses from a page that is not traced into the one that is.
        let expected = [page + 0x101b, page + 0x1022, page + 0x1002]
        #expect((0..<3).map { traced.record($0) } == expected.map { [$0] })
    }

    @Test func `a cached large page is traced after an invalidation, and untraced at once`() throws
    {
        let traced = try M(indication: .frame, isSmall: false)
        #expect(traced.execute(M.store(8, page)) == .limit)
        traced.trace(page)
        traced.processor.invalidateAll()
        #expect(traced.execute(M.store(8, page + 8), M.store(8, page + 16)) == .limit)
        #expect(traced.processor.traceProducer == 2)
        traced.trace(page, false)
        #expect(traced.execute(M.store(8, page + 24)) == .limit)
        #expect(traced.processor.traceProducer == 2)
    }

    @Test func `T in a leaf means nothing, and neither do bits beyond the frames`() throws {
        let traced = try M(indication: .frame, isSmall: false)
        traced.machine.mapSmall([page | 0x67 | PagingEntry.tracedBit])
        traced.trace(page + 0x1000)
        traced.processor.control.trace.frames = 0..<0x401
        traced.processor.invalidateAll()
        #expect(traced.execute(M.store(8, page), M.store(8, M.alias + 0x1000)) == .limit)
        #expect(traced.processor.traceProducer == 0)
        // Frames are counted from the first of them.
        traced.processor.control.trace.frames = 0x400..<0x1000
        traced.trace(0x1000)
        traced.processor.invalidateAll()
        #expect(traced.execute(M.store(8, page), M.store(8, M.alias + 0x1000)) == .limit)
        #expect(traced.processor.traceProducer == 1)
        #expect(traced.record(0) == [page + 0x1003])
    }

    @Test func `reads are not recorded, and rights and D are those of the tables`() throws {
        let traced = try M(indication: .frame)
        traced.trace(page + 0x1000)
        traced.machine.mapSmall([page + 0x1000 | 0x27], from: 1)
        traced.processor.invalidateAll()
        // MOV RAX, [page + 0x1000]
        let load: [UInt8] = [0x48, 0x8b, 0x04, 0x25] + bytes(UInt32(page + 0x1000))
        #expect(traced.execute(load) == .limit)
        #expect(
            traced.execute(M.store(8, page + 0x1000))
                == .pageFault(GuestVirtualAddress(page + 0x1000), .write))
        #expect(traced.processor.traceProducer == 0)
    }

    @Test(arguments: [false, true])
    func `it works when the guest's own tables are walked, in one dimension or in two`(
        isNested: Bool
    ) throws {
        let traced = try M(indication: .frame, isSmall: false)
        traced.trace(page + 0x1000)
        traced.processor.control.paging = .guest
        if isNested {
            // A second dimension that is the identity.
            traced.poke(0xd0_0000, 0xd0_1067)
            traced.poke(0xd0_1000, 0xd0_2067)
            for number in 0..<8 as Range<UInt64> {
                traced.poke(0xd0_2000 + number * 8, number << 21 | 0xe7)
            }
            traced.processor.control.paging = .nested(root: MachineAddress(0xd0_0000))
        }
        traced.processor.invalidateAll()
        #expect(
            traced.execute(M.store(8, page + 0x1018), M.store(8, M.alias + 0x1020)) == .limit)
        #expect(traced.execute(M.store(8, page + 0x2000)) == .limit)
        #expect(traced.processor.traceProducer == 2)
        #expect(traced.record(1) == [page + 0x1023])
    }
}
