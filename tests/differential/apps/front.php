<?php
// A front controller: serves files from ROOT. PATH_FROM says what it takes the path from, as frameworks do.
function setting($name) { return $_SERVER[$name] ?? getenv($name); }

function path_asked() {
    switch (setting('PATH_FROM')) {
        case 'info':
            return $_SERVER['PATH_INFO'] ?? $_SERVER['ORIG_PATH_INFO'] ?? '/';
        case 'redirect':
            return $_SERVER['REDIRECT_URL'] ?? '/';
        case 'symfony':
            require_once 'Symfony/Component/HttpFoundation/autoload.php';
            return rawurldecode(Symfony\Component\HttpFoundation\Request::createFromGlobals()->getPathInfo());
        default:
            return rawurldecode((string) parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH));
    }
}

header('Content-Type: text/plain');
$path = path_asked();
if ($path === '/public/echo' || $path === '/private/echo') {
    foreach ($_SERVER as $name => $value)
        if (str_starts_with($name, 'HTTP_')) echo strtr(substr($name, 5), '_', '-') . ": $value\n";
    exit;
}
$root = setting('ROOT');
$file = str_contains($path, "\0") ? false : realpath($root . $path);
if ($file === false || !str_starts_with($file, "$root/") || !is_file($file)) {
    http_response_code(404);
    exit("nothing here\n");
}
header('Content-Length: ' . filesize($file));
readfile($file);
