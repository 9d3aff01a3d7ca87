/** Icons drawn here, 24 by 24, in the colour of the text around them. */
const PATHS = {
  send: "M5 12h13M12 5l7 7-7 7",
  stop: "M7 7h10v10H7z",
  plus: "M12 5v14M5 12h14",
  copy: "M9 9h10v11H9zM5 15V4h10",
  check: "M5 12.5l4.5 4.5L19 7.5",
  up: "M7 11v9H4v-9zM7 11l4-7a2 2 0 0 1 2.5 2.3L12.8 10H19a2 2 0 0 1 2 2.4l-1.3 6A2 2 0 0 1 17.8 20H7",
  down: "M7 13V4H4v9zM7 13l4 7a2 2 0 0 0 2.5-2.3L12.8 14H19a2 2 0 0 0 2-2.4l-1.3-6A2 2 0 0 0 17.8 4H7",
  retry: "M4 12a8 8 0 1 0 2.5-5.8M4 4v4.5h4.5",
  trash: "M4 7h16M9 7V4h6v3M6.5 7l1 13h9l1-13",
  history: "M4 12a8 8 0 1 0 2.5-5.8M4 4v4.5h4.5M12 8v4.5l3 2",
  settings: "M4 8h8M18 8h2M4 16h2M12 16h8M15 5a3 3 0 1 0 0 6a3 3 0 1 0 0-6M9 13a3 3 0 1 0 0 6a3 3 0 1 0 0-6",
  image: "M4 5h16v14H4zM4 16l4.5-4.5 4 4 3-3L20 16M15.5 9.2v.1",
  close: "M6 6l12 12M18 6L6 18",
  reply: "M10 6l-6 6 6 6M4 12h9a7 7 0 0 1 7 7",
  chat: "M4 5h16v11H10l-4 4v-4H4z",
  mail: "M4 6h16v12H4zM4 7l8 6 8-6",
  account: "M12 4a4 4 0 1 0 0 8a4 4 0 1 0 0-8M4.5 20a7.5 7.5 0 0 1 15 0",
  people:
    "M9 5a3.5 3.5 0 1 0 0 7a3.5 3.5 0 1 0 0-7M2.5 19.5a6.5 6.5 0 0 1 13 0M16 5.3a3.5 3.5 0 0 1 0 6.4M18 14a6.5 6.5 0 0 1 3.5 5.5",
  enrol: "M4 4h6v6H4zM14 4h6v6h-6zM4 14h6v6H4zM14 14h2v2h-2zM18 18h2v2h-2zM19 14h1M14 19v1",
  below: "M12 5v14M6 13l6 6 6-6",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg className="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
