import Comparison
import Foundation
import Testing

@Suite struct DocumentTests {
    @Test func `the sample in the documents is of this form, and is read back as it was written`()
        throws
    {
        let path = URL(filePath: #filePath).deletingLastPathComponent()
            .appending(path: "../../Docs/Comparison/sample.json").standardized
        let data = try Data(contentsOf: path)
        let document = try JSONDecoder().decode(ComparisonDocument.self, from: data)
        #expect(document.version == ComparisonDocument.formatVersion)
        #expect(document.cells.count == 6)
        #expect(try document.json() == String(decoding: data, as: UTF8.self))
        // Its prices follow from its counts and its profile.
        for cell in document.cells {
            let price = try #require(cell.price)
            #expect(price.cycles == price.items.reduce(0) { $0 + $1.cycles })
            for item in price.items {
                let each = try #require(document.profile.figures[item.figure]).cycles
                #expect(item.cycles == UInt64((Double(item.count) * each).rounded()))
            }
        }
    }

    @Test(arguments: [
        (0, "0"), (999, "999"), (1000, "1.0k"), (1999, "1.9k"), (10_000, "10k"),
        (999_999, "999k"), (1_000_000, "1.0M"), (2_500_000_000, "2.5G"),
        (UInt64.max, "18E"),
    ])
    func `counts are cut to a few characters`(count: UInt64, text: String) {
        #expect(ComparisonDocument.abbreviated(count) == text)
    }
}
