import { defineConfig } from "vitest/config";

// `npm run dev` serves the page here and passes what belongs to the hub on to it, WebSocket included.
const hub = { target: "http://127.0.0.1:8600", ws: true };

export default defineConfig({
  base: "./", // the page also works below a prefix, behind a proxy
  plugins: [
    {
      // Paint after the script has put on the chosen theme, else a dark page flashes white first.
      name: "render-after-script",
      transformIndexHtml: { order: "post", handler: (html) => html.replace('type="module"', '$& blocking="render"') },
    },
  ],
  build: {
    outDir: "../src/autoglm/console/static",
    emptyOutDir: true,
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
  },
  // A service worker acts for what lies beside and below it, and keeps its address from version to version.
  worker: { rollupOptions: { output: { entryFileNames: "push-worker.js" } } },
  server: { host: "127.0.0.1", proxy: { "/api": hub, "/v1": hub } },
  test: { environment: "node", include: ["src/**/*.test.{ts,tsx}"], isolate: false, maxWorkers: 2 },
});
