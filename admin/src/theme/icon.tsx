// Sixteen by sixteen, drawn with one stroke width, so that they sit with text.
const paths = {
	check: "M3 8.5 6.5 12 13 4.5",
	chevron: "M6 3.5 10.5 8 6 12.5",
	copy: "M5.5 5.5V2.5h8v8h-3M2.5 5.5h8v8h-8z",
	help: "M5.8 6a2.2 2.2 0 1 1 3.2 2c-.7.350-1 .8-1 1.5M8 11.8v.2M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13z",
	leave: "M6.5 2.5h-4v11h4M6.5 8h7M10.5 5l3 3-3 3",
	link: "M6.8 9.2a2.6 2.6 0 0 0 3.7 0l2.2-2.2a2.6 2.6 0 0 0-3.7-3.7l-.8.800M9.2 6.8a2.6 2.6 0 0 0-3.7 0L3.3 9a2.6 2.6 0 0 0 3.7 3.7l.8-.8",
	moon: "M13.5 9.8A6 6 0 0 1 6.2 2.5a6 6 0 1 0 7.3 7.3z",
	screen: "M1.5 3h13v8h-13zM5.5 13.5h5M8 11v2.5",
	search: "M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9zM10.3 10.3l3.2 3.2",
	shield: "M8 1.5 13.5 3.5V8c0 3.2-2.3 5.5-5.5 6.5C4.8 13.5 2.5 11.2 2.5 8V3.5zM8 5v3.5M8 10.8v.2",
	sun: "M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1",
	warning: "M8 2 14.5 13.5h-13zM8 6.5v3.5M8 11.8v.2",
	cross: "M4 4l8 8M12 4l-8 8",
	more: "M2.8 8h.4M7.8 8h.4M12.8 8h.4",
} as const;

export type IconName = keyof typeof paths;

/** Icon is decoration: the text beside it, or its button's label, carries the meaning. */
export function Icon({ name, size = 16 }: { name: IconName; size?: number }) {
	return (
		<svg
			width={size}
			height={size}
			viewBox="0 0 16 16"
			fill="none"
			stroke="currentColor"
			strokeWidth="1.5"
			strokeLinecap="round"
			strokeLinejoin="round"
			aria-hidden="true"
			focusable="false"
		>
			<path d={paths[name]} />
		</svg>
	);
}
