// Starts Redoc on the page's document.
"use strict";

(() => {
  const place = document.getElementById("api");
  const letters = 'system-ui, -apple-system, "Segoe UI", "Liberation Sans", sans-serif';
  const code = 'ui-monospace, "Cascadia Mono", "Liberation Mono", monospace';

  window.Redoc.init(
    place.dataset.document,
    {
      scrollYOffset: "header.bar",
      sanitize: true,
      hideLoading: true,
      nativeScrollbars: true,
      requiredPropsFirst: true,
      pathInMiddlePanel: true,
      theme: {
        colors: { primary: { main: "#1d5a96" }, text: { primary: "#1c2733", secondary: "#4a5663" } },
        typography: {
          fontSize: "15px",
          fontFamily: letters,
          headings: { fontFamily: letters, fontWeight: "600" },
          code: { fontFamily: code, fontSize: "13px", wrap: true },
        },
        sidebar: { backgroundColor: "#f4f6f9", textColor: "#1c2733" },
        rightPanel: { backgroundColor: "#14273c" },
      },
    },
    place,
  );
})();
