// What the evidence does in the browser: zoom, move and lay over. Nothing is asked of the server.
(() => {
  const viewerOf = (one) => one.closest('.gsco .viewer');
  const place = (viewer, name) => Number.parseFloat(viewer.style.getPropertyValue(name) || '50');
  const move = (viewer, x, y) => {
    const within = (value) => `${Math.min(100, Math.max(0, value))}%`;
    viewer.style.setProperty('--x', within(place(viewer, '--x') + x));
    viewer.style.setProperty('--y', within(place(viewer, '--y') + y));
  };
  // The chat scrolls by keyboard too, where nothing in it takes the focus.
  const reachable = () => document.querySelector('#chat [role=log]:not([tabindex])')?.setAttribute('tabindex', '0');
  new MutationObserver(reachable).observe(document.documentElement, {childList: true, subtree: true});
  const ARROWS = {ArrowLeft: [-10, 0], ArrowRight: [10, 0], ArrowUp: [0, -10], ArrowDown: [0, 10]};

  document.addEventListener('input', (event) => {
    const name = event.target.dataset?.set;
    if (name) viewerOf(event.target)?.style.setProperty(name, event.target.value / 100);
  });
  document.addEventListener('keydown', (event) => {
    const step = event.target.classList?.contains('pane') && ARROWS[event.key];
    if (!step) return;
    move(viewerOf(event.target), ...step);
    event.preventDefault();
  });
  document.addEventListener('pointermove', (event) => {
    const pane = event.target.closest?.('.gsco .pane');
    if (!pane || !event.buttons) return;
    const viewer = viewerOf(pane);
    const zoom = Number.parseFloat(viewer.style.getPropertyValue('--zoom') || '1');
    const part = zoom > 1 ? -100 / (pane.clientWidth * (zoom - 1)) : 0;
    move(viewer, event.movementX * part, event.movementY * part);
  });
  document.addEventListener('change', (event) => {
    // Else the browser says nothing when the same file is chosen once more.
    const input = event.target;
    if (input.matches?.('#box input[type=file]')) setTimeout(() => { input.value = ''; });
  });
  document.addEventListener('click', (event) => {
    const chosen = event.target.closest?.('.gsco button[data-beside]');
    const beside = chosen?.closest('.panel')?.querySelector('.beside');
    if (!beside) return;
    const image = chosen.querySelector('img');
    const words = image.alt.replace(/^k/, 'K');
    const shown = beside.querySelector('img');
    shown.src = image.src;
    shown.alt = words;
    beside.querySelector('.pane').setAttribute('aria-label', words);
    beside.querySelector('figcaption').textContent = words;
    beside.scrollIntoView({block: 'nearest'});
  });
})();
