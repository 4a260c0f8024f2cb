/** Mark is a guidon: the small swallow-tailed flag at the head of a column. */
export function Mark({ size = 22 }: { size?: number }) {
	return (
		<svg width={size} height={size} viewBox="0 0 24 24" fill="none" aria-hidden="true" focusable="false">
			<path d="M4.5 4.5V22.5" stroke="currentColor" strokeWidth="2" strokeLinecap="round" />
			<circle cx="4.5" cy="2.5" r="1.5" fill="currentColor" />
			<path d="M5.5 4.5H22l-4 5H5.5z" fill="var(--accent)" />
			<path d="M6 9.5h12l3.2 4H6z" stroke="var(--accent)" strokeWidth="1.2" strokeLinejoin="round" />
		</svg>
	);
}
