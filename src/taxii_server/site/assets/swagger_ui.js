// Starts Swagger UI on the page's document. Nothing is kept when the page is left, and nothing asked of another host.
"use strict";

(() => {
  const place = document.getElementById("api");

  // Colouring takes seconds for what a large page of objects holds, and the browser stands still meanwhile.
  const COLOURED = 100_000;
  const SHOWN = 1_000_000;

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
          React.createElement("p", null, `${told} A smaller limit gives a smaller page.`),
          React.createElement("pre", { className: "microlight", tabIndex: 0 }, cut ? text.slice(0, SHOWN) : text),
        );
      },
    },
  });

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
    plugins: [largeAnswers],
    // Credentials are those of the dialog alone: the browser neither adds its own nor asks for some after a 401.
    requestInterceptor: (request) => Object.assign(request, { credentials: "omit" }),
  });
})();
