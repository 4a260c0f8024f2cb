import { type CSSVariablesResolver, createTheme, type MantineColorsTuple } from "@mantine/core";

const petrol: MantineColorsTuple = [
	"#e3f0f1",
	"#c6e2e5",
	"#99cdd3",
	"#67c8d1",
	"#3aa7b2",
	"#1e8d99",
	"#137a86",
	"#0b6570",
	"#08535c",
	"#054048",
];
const carmine: MantineColorsTuple = [
	"#fcefed",
	"#f7d8d4",
	"#f0b4ad",
	"#ff9e92",
	"#dd6a5d",
	"#c8483a",
	"#b03226",
	"#9c2318",
	"#821b12",
	"#66140d",
];

/** dark is what components take for their surfaces in the dark. */
const dark: MantineColorsTuple = [
	"#e8edee",
	"#b3bdc1",
	"#93a0a5",
	"#6d7a80",
	"#3a454a",
	"#273034",
	"#171d20",
	"#14191b",
	"#0f1416",
	"#0d1113",
];

export const theme = createTheme({
	colors: { petrol, carmine, dark },
	primaryColor: "petrol",
	primaryShade: { light: 7, dark: 3 },
	autoContrast: true,
	fontFamily: "var(--sans)",
	fontFamilyMonospace: "var(--mono)",
	fontSizes: { xs: "0.75rem", sm: "0.8125rem", md: "0.875rem", lg: "1rem", xl: "1.125rem" },
	defaultRadius: "sm",
	radius: { sm: "var(--radius)" },
	focusRing: "never", // tokens.css draws one for everything
	respectReducedMotion: true,
	cursorType: "pointer",
});

const tokens = {
	"--mantine-color-body": "var(--ground)",
	"--mantine-color-text": "var(--ink)",
	"--mantine-color-dimmed": "var(--ink-2)",
	"--mantine-color-placeholder": "var(--ink-3)",
	"--mantine-color-anchor": "var(--accent)",
	"--mantine-color-default": "var(--surface)",
	"--mantine-color-default-hover": "var(--sunken)",
	"--mantine-color-default-color": "var(--ink)",
	"--mantine-color-default-border": "var(--line-2)",
	"--mantine-color-error": "var(--guard)",
};

/** variables puts our tokens under the names that components look for. */
export const variables: CSSVariablesResolver = () => ({ variables: {}, light: tokens, dark: tokens });
