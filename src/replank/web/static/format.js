// Figures and words as people read them; the words are those of the command line.

const NUMBER = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export function count(value) {
  return NUMBER.format(value);
}

export function rate(value) {
  return value > 0 && value < 10 ? value.toFixed(1) : count(value);
}

export function duration(seconds) {
  if (!seconds) return "0 ms";
  const ms = seconds * 1000;
  if (ms < 0.095) return `${Math.max(1, Math.round(ms * 1000))} µs`;
  if (ms < 9.95) return `${ms.toFixed(1)} ms`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  return seconds < 60 ? `${seconds.toFixed(1)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

export function ago(unix) {
  const seconds = Math.max(0, Date.now() / 1000 - unix);
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return new Date(unix * 1000).toLocaleDateString();
}

export function clock(unix) {
  return new Date(unix * 1000).toLocaleTimeString([], { hour12: false });
}

export function unixOf(iso) {
  const found = Date.parse(iso);
  return Number.isNaN(found) ? 0 : found / 1000;
}

export const OUTCOMES = {
  committed: { word: "Committed", mark: "✔" },
  rolled_back: { word: "Rolled back", mark: "↩" },
  rejected: { word: "Rejected", mark: "✘" },
  superseded: { word: "Superseded", mark: "»" },
};

// How a reload ended; the start of a host is one, and nothing was reloaded.
export function endOf(report) {
  return isStart(report) ? { ...OUTCOMES[report.outcome], word: "Started" } : OUTCOMES[report.outcome];
}

export function isStart(report) {
  return report.reason === "start";
}

export const PHASES = ["prepare", "drain", "snapshot", "migrate", "swap", "restore", "verify", "commit"];

export function title(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export function change(from, to) {
  return !from || from === to ? to : `${from} → ${to || "?"}`;
}

// A rollback that committed is a way back, whatever its outcome is called.
export function headline(report) {
  const names = report.modules.map((one) => `${one.name} ${change(one.version_from, one.version_to)}`);
  return names.join(", ");
}
