// A web server that counts the words of a text: GET / has a form, GET /?text=… the count.
import { createServer } from "node:http";

const escape = (text) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

const page = (text) => `<!doctype html>
<title>Words</title>
<h1>Words</h1>
<form><input name="text" aria-label="Text" value="${escape(text)}"> <button>Count</button></form>
<p>${text.split(/\s+/).filter(Boolean).length} words</p>
`;

const server = createServer((request, response) => {
  const { searchParams } = new URL(request.url, "http://localhost");
  response.setHeader("Content-Type", "text/html; charset=utf-8");
  response.end(page(searchParams.get("text") ?? ""));
});

for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, () => server.close(() => process.exit(0)));
}
server.listen(process.env.PORT ?? 8080, () => console.log(`listening on ${server.address().port}`));
