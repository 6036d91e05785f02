// Starts Swagger UI on the page's document. Nothing is kept when the page is left, and nothing asked of another host.
"use strict";

(() => {
  const place = document.getElementById("api");

  // Colouring takes seconds for what a large page of objects holds, and the browser stands still meanwhile.
  const COLOURED = 100_000;
  const SHOWN = 1_000_000;

  const saving = (React, { children, fileName }) => {
    const save = () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([children]));
      link.download = fileName ?? "answer.json";
      link.click();
      URL.revokeObjectURL(link.href);
    };
    return React.createElement("button", { type: "button", className: "btn", onClick: save }, "Download");
  };

  const largeAnswers = () => ({
    wrapComponents: {
      HighlightCode: (Original, { React }) => (properties) => {
        const text = properties.children;
        if (typeof text !== "string" || text.length <= COLOURED) {
          return React.createElement(Original, properties);
        }
        const cut = text.length > SHOWN;
        const told = cut
          ? `The first ${SHOWN.toLocaleString("en")} of ${text.length.toLocaleString("en")} characters.`
          : `${text.length.toLocaleString("en")} characters, without colours.`;
        return React.createElement(
          "div",
          { className: "large-answer" },
          React.createElement("p", null, `${told} A smaller limit gives a smaller page. `, saving(React, properties)),
          React.createElement("pre", { className: "microlight", tabIndex: 0 }, cut ? text.slice(0, SHOWN) : text),
        );
      },
    },
  });

  // With Basic the line to paste names the client alone, and curl asks for the secret: lines end up in tickets.
  const withoutSecret = (generator) => (request) => {
    const headers = request.get("headers");
    const [scheme, value] = (headers?.get("Authorization") ?? "").split(" ");
    if (scheme !== "Basic") {
      return generator(request);
    }
    const client = atob(value).split(":")[0].replace(/[^\w.-]/g, "");
    const line = generator(request.set("headers", headers.delete("Authorization")));
    return line.replace(/^curl(\.exe)?/, `$& -u ${client}`);
  };

  const secretsStayOut = () => ({
    afterLoad(system) {
      for (const shell of ["bash", "powershell", "cmd"]) {
        const name = `requestSnippetGenerator_curl_${shell}`;
        system.fn[name] = withoutSecret(system.fn[name]);
      }
    },
  });

  // Swagger UI fills a form with the first example of everything. Together such filters match nothing, so what may be left
  // out is left out until somebody chooses an example; but a first page shall be a short one. The guide that the document
  // begins with is read elsewhere: here the requests come first.
  const forTrying = (document) => {
    const { info } = document;
    if (place.dataset.guide) {
      const summary = (info.description ?? "").split(/^#/m)[0];
      info.description = `${summary}\n\n[Guide: how to authenticate, poll, filter and push](${place.dataset.guide})`;
    }
    if (info.contact) {
      info.contact.name ??= "the operator";
    }
    for (const parameter of Object.values(document.components?.parameters ?? {})) {
      // shown by their parts, such items would be "any | string"; what may be given is said in words
      if (parameter.schema?.items?.anyOf) {
        parameter.schema = { type: "array", items: { type: "string" } };
      }
      if (parameter.name === "limit") {
        delete parameter.schema?.default;
      } else if (!parameter.required && parameter.examples) {
        const value = parameter.schema?.type === "array" ? [] : "";
        parameter.examples = { none: { summary: "—", value }, ...parameter.examples };
      }
    }
    return document;
  };

  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
  dark.addEventListener("change", follow);
  follow();

  window.SwaggerUIBundle({
    url: place.dataset.document,
    domNode: place,
    deepLinking: true,
    filter: true,
    tryItOutEnabled: true,
    persistAuthorization: false,
    validatorUrl: null,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    requestSnippetsEnabled: true,
    plugins: [largeAnswers, secretsStayOut],
    responseInterceptor: (response) => {
      if (response.ok && new URL(response.url).pathname === place.dataset.document) {
        response.text = JSON.stringify(forTrying(JSON.parse(response.text)));
      }
      return response;
    },
    // Credentials are those of the dialog alone: the browser neither adds its own nor asks for some after a 401.
    requestInterceptor: (request) => Object.assign(request, { credentials: "omit" }),
  });
})();
