/// A date and time of day in the Gregorian calendar, as the clock keeps it.
struct CalendarDate: Hashable {
    var year: Int
    /// 1…12
    var month: Int
    /// 1…31
    var day: Int
    var hour: Int
    var minute: Int
    var second: Int

    /// The last second of the year 9999: what the century and year registers can hold.
    static let last: Int64 = 253_402_300_799

    /// - Parameter unixTime: seconds since 1970-01-01 00:00:00, 0…`last`; others are clamped.
    init(unixTime: Int64) {
        let time = min(max(unixTime, 0), Self.last)
        second = Int(time % 60)
        minute = Int(time / 60 % 60)
        hour = Int(time / 3600 % 24)
        var days = Int(time / 86400)
        // Whole 400-year cycles, then years and months one at a time: at most 400 + 12 steps.
        year = 1970 + days / Self.cycleDays * 400
        days %= Self.cycleDays
        while days >= Self.length(ofYear: year) {
            days -= Self.length(ofYear: year)
            year += 1
        }
        month = 1
        while days >= Self.length(ofMonth: month, year: year) {
            days -= Self.length(ofMonth: month, year: year)
            month += 1
        }
        day = days + 1
    }

    /// Seconds since 1970-01-01. Fields out of range, which a guest may have written, are brought
    /// into it first.
    var unixTime: Int64 {
        let year = min(max(self.year, 1970), 9999)
        let month = min(max(self.month, 1), 12)
        let day = min(max(self.day, 1), Self.length(ofMonth: month, year: year))
        // Days before 1 January of `year`, from year 1, less those before 1970.
        let before = year - 1
        var days = before * 365 + before / 4 - before / 100 + before / 400 - 719_162
        for month in 1..<month { days += Self.length(ofMonth: month, year: year) }
        days += day - 1
        let clock = min(max(hour, 0), 23) * 3600 + min(max(minute, 0), 59) * 60
        return Int64(days * 86400 + clock + min(max(second, 0), 59))
    }

    /// 1 is Sunday. 1970-01-01 was a Thursday.
    var dayOfWeek: Int { Int((unixTime / 86400 + 4) % 7) + 1 }

    private static let cycleDays = 146_097

    private static func isLeap(_ year: Int) -> Bool {
        year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
    }

    private static func length(ofYear year: Int) -> Int { isLeap(year) ? 366 : 365 }

    private static func length(ofMonth month: Int, year: Int) -> Int {
        switch month {
        case 2: isLeap(year) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }
}
