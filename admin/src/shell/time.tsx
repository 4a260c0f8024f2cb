import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";

const time = new Intl.DateTimeFormat(undefined, {
	hour: "2-digit",
	minute: "2-digit",
	second: "2-digit",
	hourCycle: "h23",
});
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const dayAndYear = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long", hourCycle: "h23" });

/** clock is the time of day, in the reader's time zone. */
export function clock(date: Date): string {
	return time.format(date);
}

/** Moment is a time as short as it can be; the exact one is its title. */
export function Moment({ at }: { at: Timestamp | undefined }) {
	if (at === undefined) return null;
	const date = timestampDate(at);
	const now = new Date();
	const today = date.toDateString() === now.toDateString();
	const dated = date.getFullYear() === now.getFullYear() ? day : dayAndYear;
	return (
		<time dateTime={date.toISOString()} title={exact.format(date)}>
			{today ? clock(date) : `${dated.format(date)} ${clock(date)}`}
		</time>
	);
}
