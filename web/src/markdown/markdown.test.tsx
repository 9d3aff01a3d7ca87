import { renderToStaticMarkup } from "react-dom/server";
import { describe, expect, test } from "vitest";
import { decodeEntities } from "./entities";
import { safeHref } from "./links";
import { Markdown } from "./markdown";

const html = (text: string) => renderToStaticMarkup(<Markdown text={text} />);

describe("Markdown", () => {
  test("renders what answers are made of", () => {
    const text = "# Title\n\na **b** *c* ~~d~~ `e<f`\nnext\n\n3. x\n4. y\n\n- [x] done\n\n|h|\n|-:|\n|1|\n\n> q\n\n---";
    const shown = html(text);
    for (const wanted of [
      "<h3>Title</h3>",
      "<strong>b</strong> <em>c</em> <del>d</del> <code>e&lt;f</code><br/>next",
      '<ol start="3"><li>x</li><li>y</li></ol>',
      '<li class="task"><span class="tick" role="img" aria-label="done">☑</span>done</li>',
      '<th class="align-right">h</th>',
      '<td class="align-right">1</td>',
      "<blockquote><p>q</p></blockquote>",
      "<hr/>",
    ])
      expect(shown).toContain(wanted);
  });

  test("shows code as it is, with its language", () => {
    const shown = html("```python title\nif a < b & c: pass\n```");
    expect(shown).toContain("<span>python</span>");
    expect(shown).toContain("<code>if a &lt; b &amp; c: pass</code>");
  });

  test("shows HTML as text", () => {
    const shown = html(
      "<img src=x onerror=alert(1)> and <b>bold</b>\n\n<script>alert(1)</script>\n\n<div onclick=x>y</div>",
    );
    expect(shown).not.toMatch(/<(img|script|b|div onclick)/);
    expect(shown).toContain("&lt;img src=x onerror=alert(1)&gt;");
    expect(shown).toContain("&lt;script&gt;alert(1)&lt;/script&gt;");
  });

  test("links only to where a click is safe, and fetches nothing", () => {
    expect(html("[x](javascript:alert(1)) ![p](https://evil.example/p.png) <javascript:alert(2)>")).not.toMatch(
      /href="javascript|<img|src=/i,
    );
    expect(html("[x](https://example.com/a?b=1&c=2)")).toContain(
      '<a href="https://example.com/a?b=1&amp;c=2" target="_blank" rel="noopener noreferrer">x</a>',
    );
    expect(html("![p](https://example.com/p.png)")).toContain('<a href="https://example.com/p.png"');
  });

  test("bears half-written text, as it comes while a model writes", () => {
    const text =
      "# T\n\n| a | b |\n|---|---|\n| 1 | **2** |\n\n```js\nlet a = `b`;\n```\n\n1. [l](https://x.y 'z') ![i](j)\n";
    for (let end = 0; end <= text.length; end++) expect(html(text.slice(0, end))).toContain('class="markdown"');
  });
});

test("Markdown bears text that is made to break it", () => {
  const nested = Array.from({ length: 200 }, (_, depth) => `${"  ".repeat(depth)}- a`).join("\n");
  for (const text of [
    ">".repeat(20_000),
    "> ".repeat(300) + "x",
    nested,
    "x".repeat(60_000),
    "[".repeat(40_000),
    "*a ".repeat(10_000),
  ])
    expect(html(text).match(/<(ul|blockquote)>/g)?.length ?? 0).toBeLessThan(30);
});

test("safeHref lets through web, mail and telephone addresses only", () => {
  const safe = ["https://a.b/c", "HTTP://a.b", "mailto:a@b.c", "tel:+861234"];
  for (const href of safe) expect(safeHref(href)).not.toBeNull();
  const unsafe = [
    ...[
      "javascript:alert(1)",
      "JaVaScRiPt:alert(1)",
      " javascript:alert(1)",
      "java\nscript:alert(1)",
      "\u0001javascript:x",
    ],
    ...["data:text/html,x", "vbscript:x", "blob:x", "file:///etc/passwd", "/relative", "#key=x", "//a.b", ""],
  ];
  for (const href of unsafe) expect(safeHref(href)).toBeNull();
});

test("decodeEntities reads HTML's character references, and leaves all else", () => {
  expect(decodeEntities("AT&amp;T &lt;b&gt; &#20320;&#x597D; &nope; & &#0; &#xD800;")).toBe(
    "AT&T <b> 你好 &nope; & \ufffd \ufffd",
  );
});
