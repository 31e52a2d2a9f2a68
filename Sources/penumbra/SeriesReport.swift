import Reporting
import VirtualMachine

extension Report.Series {
    /// A run's series as the ledger's JSON has it.
    init(_ series: RunSeries) {
        self.init(
            interval: series.interval,
            columns: [
                "instructions", "buffered-records", "shadow-pages", "exits", "records", "coalesced",
                "drains",
            ],
            points: series.points.map { point in
                [
                    point.instructions, point.bufferedRecords, point.shadowPages, point.exits,
                    point.records, point.coalesced, point.drains,
                ]
            })
    }
}
