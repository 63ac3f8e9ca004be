# Rack::Files before a tree, ROOT in the environment, for Puma and WEBrick.
files = Rack::Files.new(ENV['ROOT'], {}, 'text/plain')
use Rack::MethodOverride
%w[/public/echo /private/echo].each do |path|
  map(path) do
    run lambda { |env|
      fields = env.select { |name, _| name.start_with?('HTTP_') }
      [200, { 'Content-Type' => 'text/plain' }, fields.map { |name, value| "#{name[5..].tr('_', '-')}: #{value}\n" }]
    }
  end
end
run files
