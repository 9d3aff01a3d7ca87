export function Logo() {
  return (
    <svg className="logo" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <rect width="32" height="32" rx="8" />
      <path d="M16 16 8.5 9.5M16 16l7.5-6.5M16 16v8.5" />
      <circle cx="16" cy="16" r="4.2" />
      <circle cx="8.5" cy="9.5" r="2.6" />
      <circle cx="23.5" cy="9.5" r="2.6" />
      <circle cx="16" cy="24.5" r="2.6" />
    </svg>
  );
}
